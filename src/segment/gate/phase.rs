//! The contrast phase, as blood and liver show it.

/// When after the injection a scan was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Without contrast, or long after it.
    Native,
    /// Blood far brighter than the liver, which has had little yet.
    Arterial,
    /// Liver at its brightest, some 70 s after the injection: what nomograms of liver metastasis are made on.
    PortalVenous,
    /// Blood hardly brighter than the liver, minutes after the injection.
    Late,
    /// Without an aorta nothing sure can be said.
    Unknown,
}

impl Phase {
    /// For people and files.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Native => "native",
            Phase::Arterial => "arterial",
            Phase::PortalVenous => "portal-venous",
            Phase::Late => "late",
            Phase::Unknown => "unknown",
        }
    }
}

/// Blood without contrast has 30 to 60 HU; below this it has none.
const NATIVE_AORTA_HU: f64 = 80.0;
/// In the arterial phase the aorta is brighter than the liver by more than this (typically 300 and 70 HU; portal-venous 150 and 110).
const ARTERIAL_OVER_LIVER_HU: f64 = 90.0;
/// Minutes later blood and liver are alike (110 and 95 HU) and the aorta is below the other limit.
const LATE_OVER_LIVER_HU: f64 = 20.0;
const LATE_AORTA_HU: f64 = 125.0;

/// The phase by the medians of aorta and liver.
pub fn phase(aorta_hu: f64, liver_hu: f64) -> Phase {
    let over = aorta_hu - liver_hu;
    match () {
        () if over.is_nan() => Phase::Unknown,
        () if aorta_hu < NATIVE_AORTA_HU => Phase::Native,
        () if over > ARTERIAL_OVER_LIVER_HU => Phase::Arterial,
        () if over < LATE_OVER_LIVER_HU && aorta_hu < LATE_AORTA_HU => Phase::Late,
        () => Phase::PortalVenous,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typical_scans_have_their_phase() {
        let cases = [
            ([40.0, 55.0], Phase::Native),
            ([320.0, 70.0], Phase::Arterial),
            ([155.0, 110.0], Phase::PortalVenous),
            ([135.0, 120.0], Phase::PortalVenous),
            ([110.0, 95.0], Phase::Late),
            ([f64::NAN, 95.0], Phase::Unknown),
        ];
        for ([aorta, liver], expected) in cases {
            assert_eq!(phase(aorta, liver), expected, "{aorta} {liver}");
        }
    }
}
