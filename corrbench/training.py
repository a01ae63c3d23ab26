"""What a config says of training: its recipes, where each is trained, and where their videos lie."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from corrbench.datasets.source import how_to_get
from corrbench.entries import WeightsId
from corrbench.errors import Refusal
from corrbench.pretraining.recipe import Recipe
from corrbench.rows import AllRows


class Training:
    """The recipes that a config may train. `data` is the config's `data:`, a root (or ``download``) by data set."""

    def __init__(self, rows: AllRows, data: Mapping[str, str], results: Path) -> None:
        self.rows, self.data, self.results = rows, data, results

    def run_folder(self, recipe: str, tier: str, seed: int) -> Path:
        """Where a recipe is trained."""
        return self.results / "pretrain" / recipe / f"{tier}-seed{seed}"

    def recipe(self, name: str, tier: str) -> Recipe:
        """A recipe at a tier."""
        return Recipe.from_row(self.rows.recipes.get(name, "recipe"), tier)

    def chain(self, weights: WeightsId) -> list[Recipe]:
        """The recipe of pretrained weights and those that it starts from, the last stage first; empty for other weights."""
        chain: list[Recipe] = []
        if weights.tier is not None:
            name: str | None = self.rows.methods.get(weights.method, "weights")["recipe"]
            while name is not None and all(r.name != name for r in chain):
                chain.append(self.recipe(name, weights.tier[0]))
                name = chain[-1].init
        return chain

    def video_root(self, dataset: str) -> Path:
        """Root of a data set of videos."""
        row = self.rows.datasets.get(dataset, "recipe: data")
        if "videos" in row and self.are_videos_generated(dataset):
            return self.results / "data" / dataset
        if self.is_downloaded(dataset):
            return self.results / "data" / dataset / row["root"]
        if dataset not in self.data:
            raise Refusal(
                f"training needs data.{dataset}",
                expected=f"`data: {{{dataset}: /path}}` in the config, the root of {row['title']}",
                do=how_to_get(row),
            )
        return Path(self.data[dataset])

    def is_downloaded(self, dataset: str) -> bool:
        """True if the workflow fetches a data set: `data: {...: download}`."""
        return self.data.get(dataset) == "download"

    def video_roots(self, dataset: str) -> dict[str, Path]:
        """Roots of a data set of videos, by the key under `data:`; several for a mixture."""
        return {name: self.video_root(name) for name in self.roots_of(dataset)}

    def roots_of(self, dataset: str) -> list[str]:
        """The keys under `data:` that a data set of videos needs; several for a mixture."""
        parts = self.rows.datasets.get(dataset, "recipe: data").get("videos", {}).get("parts", [])
        return sorted({part.get("data") or dataset for part in parts} or {dataset})

    def are_videos_generated(self, dataset: str) -> bool:
        """True if the workflow makes these videos."""
        row = self.rows.datasets.get(dataset, "recipe: data")
        if "videos" not in row:
            raise Refusal(
                f"{dataset} is no data set of videos",
                expected="a row with `videos:`",
                do="correct `data:` of the recipe",
            )
        return "generate" in row["videos"] and dataset not in self.data
