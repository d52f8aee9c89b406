//! Net reclassification and integrated discrimination improvement.
