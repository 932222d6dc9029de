"""Score a text file with a Hugging Face model folder, and show where the cache helped most.

python examples/score_hf_folder.py path/to/model notes.txt
"""

import csv
import sys
from pathlib import Path

from eval import ScoreConfig, load_model, open_data, score


def main(folder: str, text: str, out: str = "results") -> None:
    model = load_model(folder)
    config = ScoreConfig(context=min(256, model.context), batch=4)
    result = score(model, open_data([text]), config, out=Path(out), write_tokens=True)
    print(result.table())
    with Path(out, "tokens.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["bits_model"]]
    rows.sort(key=lambda row: float(row["bits"]) - float(row["bits_model"]))
    print("most bits saved:")
    for row in rows[:5]:
        saved = float(row["bits_model"]) - float(row["bits"])
        print(f"{saved:6.2f} bits at byte {row['byte']}: {row['text']!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
