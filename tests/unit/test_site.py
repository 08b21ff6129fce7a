"""What the documentation site makes of the pages."""

from __future__ import annotations

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
