"""Plot loss, accuracy and Dice by epoch from results of `train_cross_validation`.

Run: python -m tests.bench.train_curves results.jsonl docs/ablation-curves.svg
"""

import json
import sys
from pathlib import Path

from matplotlib.figure import Figure

from components.report.page import BLUE, GREEN, ORANGE, PURPLE, VERMILION


def main(results: Path, picture: Path) -> None:
    """Plot one line for each preset and fold, of validation slices; a preset has one color."""
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    rows = [row for row in rows if row.get("changes", "{}") == "{}"]
    presets = list(dict.fromkeys(row["preset"] for row in rows))
    colors = dict(zip(presets, (BLUE, VERMILION, ORANGE, GREEN, PURPLE), strict=False))
    styles = dict(zip(presets, ("solid", "dashed", "dotted", "dashdot", "solid"), strict=False))
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    panels = {"val_loss": "loss (each recipe's own)", "val_accuracy": "accuracy", "val_dice": "Dice"}
    for axes, (name, label) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        labeled: set[str] = set()
        for row in rows:
            preset, series = row["preset"], row["history"][name]
            legend = None if preset in labeled else preset
            labeled.add(preset)
            axes.plot(
                range(1, len(series) + 1), series, color=colors[preset], linestyle=styles[preset], lw=1, label=legend
            )
        axes.set(xlabel="epoch", ylabel=label)
        axes.grid(color="#dddddd")
        axes.legend(frameon=False)
    figure.savefig(picture, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
