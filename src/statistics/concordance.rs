//! Concordance of a prediction with survival: Harrell, Uno.
