"""What the documentation site makes of the pages."""

from __future__ import annotations

from code_map import arrows, layers
from docs_links import DOCS, replace_outside_links, show_roles


def test_link_to_a_file_outside_of_the_docs_becomes_its_path() -> None:
    text = "See [the parts](../compose.yaml) and [`compose.yaml`](../compose.yaml)."
    assert "See the parts (`compose.yaml`) and `compose.yaml`." == replace_outside_links(text, DOCS)


def test_links_within_the_docs_and_to_elsewhere_stay() -> None:
    text = "[Wait](wait.md#many-jobs-one-wait), ![picture](images/page-light.png), [PyPI](https://pypi.org)"
    assert text == replace_outside_links(text, DOCS)
    assert "[Start](../index.md)" == replace_outside_links("[Start](../index.md)", DOCS / "adr")


def test_roles_of_docstrings_are_shown_as_names() -> None:
    assert "raise <code>NotFound</code>" == show_roles(
        "raise :class:<code>~airflow_provider_scantrust.exceptions.NotFound</code>"
    )


def test_every_arrow_of_the_map_points_downward() -> None:
    rank = {name: number for number, row in enumerate(layers()) for name in row}
    # The page and the sandbox stand beside the layers.
    layered = [pair for pair in arrows() if rank.keys() >= set(pair)]
    assert layered
    assert all(rank[one] < rank[other] for one, other in layered)
