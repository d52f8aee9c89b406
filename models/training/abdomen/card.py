"""The model card, from measured figures only: what is missing is said to be missing."""

HEAD = """# Model card: segmenter-abdomen {version}

**Demonstration, not for clinical use.** Liver and gate organs on CT of an adult abdomen, in two stages: organs at 4 mm, then the liver's surface
and lesions at 2 mm. Liver lesions are candidates *for review*. There is no class for the colorectal tumor: no real truth to train or test on
was at hand, so that region comes from an imported network, from a supplied mask, or is absent.

## Training
Synthetic CT only (domain randomization: `models/training/abdomen`), from label maps of {anatomies}. No intensity of a real scan was trained on;
where a map has a CT beside it, that CT only tells fat, muscle and bone apart where nothing is labeled.
{training}
`models/training/README.md` says what was chosen by what. The last averaged weights ship.
"""

LIMITS = """
## Limits
- One or two anatomies: unusual ones (large or cirrhotic liver, after resection, children, situs inversus) were never seen. Left and right are
  learnt: a scan whose orientation is wrong fails.
- Known weak places: underside of the heart, stomach against the left lobe, gallbladder and vena cava at the hilum, isodense bowel in native CT.
- Organs other than the liver are hints for the quality gate, not results. The colon label of the atlas contains the ileum.
- Lesions: found or missed on real CT is known only where it is said above. Streaks, fissures and hilar fat are marked too.
- Lung, aorta and bone contain what the synthetic torso calls so: ribs and large arteries are drawn, not scanned.
"""


def table(rows, columns):
    lines = ["| " + " | ".join(title for _, title in columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        lines.append("| " + " | ".join(str(row.get(key, "not measured")) for key, _ in columns) + " |")
    return "\n".join(lines)


def card(version, anatomies, training, figures, evaluation):
    """Text of CARD.md. `figures`: list of evaluate_real.py or None; `evaluation`: dict of lesions.py --evaluate or None."""
    text = HEAD.format(version=version, anatomies=anatomies, training=training)
    if figures:
        columns = [("name", "volume"), ("role", "what it was used for"), ("dice", "liver Dice"), ("hd95_mm", "HD95, mm"), ("mean_surface_mm", "mean surface, mm"),
                   ("volume_error", "volume error"), ("liver_ml", "liver, mL"), ("entropy_nats", "entropy, nats")]
        text += "\n## On real CT\nBoth stages, int8 weights, on the scan's own grid, lesions counted as liver (`evaluate_real.py`).\n\n" + table(figures, columns) + "\n\n"
        for row in figures:
            section = row.get("largest_section")
            if not section:
                continue
            text += f"- {row['name']}: largest cross-section {section['pixels']} pixels, mean {section['mean_hu']} HU, slice {section['slice_from_above']} from above; "
            text += f"{len(row['candidates'])} lesion candidates"
            for c in row["candidates"][:12]:
                text += f"; {c['ml']} mL (slice {c['slice_from_above']:g} from above, probability {c['probability']})"
            text += f". {row.get('note', '')}\n"
        others = [row for row in figures if any(key.startswith("dice_") for key in row)]
        for row in others:
            text += f"- {row['name']}, other organs: " + ", ".join(f"{key[5:]} {value}" for key, value in row.items() if key.startswith("dice_")) + " (Dice).\n"
        text += "\nPictures: `docs/segmenter-abdomen/` (outlines: found; dotted white: reference).\n"
    else:
        text += "\n## On real CT\nNot measured.\n"
    text += "\n## Lesions, synthetic\n"
    if evaluation and evaluation.get("point"):
        _, _, ml, p = evaluation["point"]
        text += (f"Operating point: components of at least {ml} mL with mean probability of at least {p}, chosen on as many other synthetic livers; "
                 f"reported on {evaluation['livers']} unseen ones (anatomies as in training, other deformations and contrasts): "
                 f"{evaluation['false_marks_per_liver']:.2f} false marks per liver (160 x 224 x 224 mm).\n\n")
        text += "| diameter, mm | contrast / noise | recall | lesions |\n|---|---|---|---|\n"
        for key, value in evaluation.items():
            if key.startswith("recall_") and "contrast" in key:
                size, contrast = key[len("recall_"):-len("_noise")].split("_mm_contrast_")
                name = lambda s: s.replace("_to_1e+09", " and more").replace("_to_200", " and more").replace("_to_", " to ")
                text += f"| {name(size)} | {name(contrast)} | {value[0] if value[1] else 'none'} | {value[1]} |\n"
        text += f"\nLiver Dice on all of them: {evaluation['liver_dice']} (input, a made-up first stage with errors: {evaluation['liver_dice_made_up_first_stage']})."
        text += f" Lesions over 10 mm together: {evaluation['recall_over_10_mm'][0]} of {evaluation['recall_over_10_mm'][1]} (goal 0.8).\n"
    else:
        text += "No second stage in this package, or not measured.\n"
    return text + LIMITS
