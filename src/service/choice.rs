//! When a series has arrived, and whether it is the one of its study that is analyzed.

use super::plan::is_ready;
use super::worker::{Stopped, Worker, rejected};
use crate::dicom::{self, SeriesError};
use crate::store::{StateV1, StoreError, StudyV1};
use std::time::Duration;

/// Code of a series that is acceptable, while another one of its study is analyzed.
pub(super) const NOT_CHOSEN: &str = "series.not-chosen";

impl Worker {
    /// Of a series that is arriving: how long it was quiet, whether its sender is connected, and (once it was quiet for
    /// a while) whether slices are missing that may still come.
    pub(super) fn arrival(&mut self, study: &StudyV1) -> Result<(Duration, bool, bool), StoreError> {
        let (quiet, sender_open) = self.arrivals.of(&study.series_uid);
        if quiet < self.patience.quiet || sender_open {
            return Ok((quiet, sender_open, false));
        }
        let has_gap = match self.plan(study)? {
            Ok(plan) => plan.refusals.iter().any(|r| r.code == "series.short-extent"),
            Err(error) => error.may_heal(),
        };
        Ok((quiet, sender_open, has_gap))
    }

    /// Whether another series of the same study is still arriving.
    pub(super) fn siblings_arriving(&mut self, study: &StudyV1, all: &[StudyV1]) -> Result<bool, StoreError> {
        for sibling in siblings(study, all).filter(|s| s.state == StateV1::Receiving) {
            let (quiet, sender_open, has_gap) = self.arrival(sibling)?;
            if !is_ready(quiet, sender_open, has_gap, self.patience) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Which of the acceptable series of a study is analyzed; `Err` for the others. Series that were found unfit in
    /// earlier steps are none of them.
    pub(super) fn choose(&mut self, study: &StudyV1, all: &[StudyV1]) -> Result<(), Stopped> {
        if siblings(study, all).next().is_none() {
            return Ok(());
        }
        let in_question = |s: &&StudyV1| match &s.state {
            StateV1::Rejected { code, .. } => code == NOT_CHOSEN,
            StateV1::Failed { .. } => false,
            _ => true,
        };
        let mut plans = Vec::new();
        for candidate in std::iter::once(study).chain(siblings(study, all).filter(in_question)) {
            match self.plan(candidate)? {
                Ok(plan) if plan.refusals.is_empty() => plans.push((candidate.number.as_str(), plan)),
                _ => {}
            }
            if candidate.state.is_final() {
                self.under_way.remove(&candidate.number);
            }
        }
        let candidates: Vec<_> = plans.iter().filter_map(|(_, plan)| dicom::Candidate::of(plan)).collect();
        let choice = dicom::choose_series(&candidates, &self.rules);
        let (code, sentence) = match choice.index.map(|index| plans[index].0) {
            Some(number) if number == study.number => return Ok(()),
            Some(number) => {
                (NOT_CHOSEN, format!("series {number} of the same study is analyzed instead: {}", choice.sentence))
            }
            None => ("series.several-series", format!("no series was analyzed: {}", choice.sentence)),
        };
        let advice = "name the wanted series in [[series.choose]] of the configuration (`metwatch series explain` shows what each is)";
        Err(Stopped::Rejected { code: code.into(), sentence, advice: advice.into() })
    }

    /// The end of a series of which no volume can be made; INCOMPLETE if slices are missing that did not come in time.
    pub(super) fn no_plan(&self, error: &SeriesError) -> Stopped {
        if !matches!(error, SeriesError::MissingSlice { .. } | SeriesError::TooFewSlices { .. }) {
            return rejected(error);
        }
        let waited_s = self.patience.incomplete.as_secs();
        let sentence = format!("INCOMPLETE: {error}; nothing more came for {waited_s} s. What came is kept");
        let advice = "send the missing slices, or the whole series again: they make a new revision";
        Stopped::Rejected { code: crate::Explain::code(error).into(), sentence, advice: advice.into() }
    }
}

/// The other series of the same DICOM study.
fn siblings<'a>(study: &'a StudyV1, all: &'a [StudyV1]) -> impl Iterator<Item = &'a StudyV1> {
    all.iter().filter(|s| !s.study_uid.is_empty() && s.study_uid == study.study_uid && s.number != study.number)
}
