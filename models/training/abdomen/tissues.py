"""Tissues of the synthetic torso, their HU by contrast phase, and which class of the network each one belongs to."""
import numpy as np

# Order = value in a torso. 0 is air outside the body (and outside the scan).
TISSUES = [
    "air", "fat", "skin", "muscle", "bone", "lung", "heart", "liver", "spleen", "right_kidney", "stomach", "colon", "small_bowel", "pancreas",
    "gallbladder", "aorta", "vein", "portal_vein", "bladder", "soft", "table", "disc",
    "left_kidney",
]
T = {name: value for value, name in enumerate(TISSUES)}

# The network's classes. Lesions are liver here; the second network finds them.
CLASSES = ["background", "liver", "colon", "spleen", "right_kidney", "left_kidney", "lung", "aorta", "bone"]
CLASS_OF = np.array([CLASSES.index(name) if name in CLASSES else 0 for name in TISSUES], np.int64)

PHASES = ["native", "arterial", "portal", "late"]
PHASE_SHARES = [0.25, 0.12, 0.48, 0.15]
# Mean HU by phase (native, arterial, portal, late) and spread between patients. Liver, portal: 92 / 115 / 139 (10, 50, 90 %) in 196
# studies of ../../../shared/data/crlm_features; the others are textbook values with wide spreads.
HU = {
    "air": ((-1000,) * 4, 0), "fat": ((-103, -102, -100, -100), 9), "skin": ((10, 20, 30, 30), 25), "muscle": ((52, 56, 64, 64), 9),
    "bone": ((260, 270, 290, 290), 90), "lung": ((-830, -820, -810, -810), 60), "heart": ((42, 180, 130, 100), 30),
    "liver": ((56, 72, 115, 100), 17), "spleen": ((48, 120, 122, 102), 17), "right_kidney": ((33, 140, 175, 165), 28), "left_kidney": ((33, 140, 175, 165), 28),
    "stomach": ((40, 60, 75, 70), 18), "colon": ((38, 55, 72, 70), 16), "small_bowel": ((38, 70, 85, 75), 20),
    "pancreas": ((38, 90, 95, 80), 16), "gallbladder": ((10, 10, 12, 14), 10), "aorta": ((42, 300, 160, 120), 32),
    "vein": ((42, 70, 130, 120), 28), "portal_vein": ((42, 110, 165, 125), 25), "bladder": ((6, 6, 8, 60), 12),
    "soft": ((40, 55, 70, 68), 15), "table": ((-250,) * 4, 250), "disc": ((80, 85, 90, 90), 18),
}
MEAN_HU = np.array([HU[name][0] for name in TISSUES], float)  # (tissue, phase)
SPREAD_HU = np.array([HU[name][1] for name in TISSUES], float)

# The numbering of the atlas (../../../shared/data/abdominal_atlas/labels.json) as tissues.
ATLAS = {3: "liver", 4: "spleen", 6: "pancreas", 7: "aorta", 8: "vein", 9: "colon", 10: "gallbladder", 12: "portal_vein", 13: "stomach"}
ATLAS |= {v: "aorta" for v in (16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 29, 71, 72, 73, 74, 75, 76, 126)}
ATLAS |= {v: "vein" for v in (81, 82, 83, 84, 85, 86, 117, 128, 129, 151, 153)}
ATLAS |= {v: "soft" for v in (111, 112, 127, 141, 142, 145, 146, 227)}
ATLAS |= {51: "right_kidney", 52: "left_kidney"}
ATLAS |= {v: "muscle" for v in (32, 131, 133, 135, 136, 137, 138, 139, 140, 143, 231, 233, 235, 236, 237, 238, 239, 240, 241)}
ATLAS |= {v: "bone" for v in (299, 409, 410, 411, 412, 501, 502, 503, 504, 505, 600, 686, 687, 688, 689, 690, 691, 692)}
ATLAS |= {v: "disc" for v in range(551, 560)}

# TotalSegmentator v2 numbering as tissues.
TOTALSEGMENTATOR = {
    1: "spleen", 2: "right_kidney", 3: "left_kidney", 4: "gallbladder", 5: "liver", 6: "stomach", 7: "pancreas", 8: "soft", 9: "soft", 15: "soft",
    18: "small_bowel", 19: "small_bowel", 20: "colon", 21: "bladder", 22: "soft", 51: "heart", 52: "aorta", 53: "vein", 62: "vein", 63: "vein",
    64: "portal_vein", 65: "aorta", 66: "aorta", 67: "vein", 68: "vein", 79: "soft",
}
TOTALSEGMENTATOR |= {v: "lung" for v in range(10, 15)}
TOTALSEGMENTATOR |= {v: "bone" for v in [*range(25, 51), *range(69, 79), *range(91, 118)]}
TOTALSEGMENTATOR |= {v: "muscle" for v in range(80, 90)}
NUMBERINGS = {"atlas": ATLAS, "totalsegmentator": TOTALSEGMENTATOR}
