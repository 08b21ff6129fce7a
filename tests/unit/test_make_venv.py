"""How pip's settings become uv's, so that both install from the same index."""

from __future__ import annotations

from make_venv import read_settings, uv_settings

LISTED = r"""
:env:.index-url='https://mirror.example/simple'
global.index-url='https://other.example/simple'
global.extra-index-url='\nfile:///one\nfile:///two'
global.find-links='/wheels /more'
install.timeout='60'
download.timeout='5'
"""


def test_environment_variable_wins_over_the_file() -> None:
    assert "https://mirror.example/simple" == read_settings(LISTED)["index-url"]


def test_settings_of_other_pip_commands_are_left_out() -> None:
    assert "60" == read_settings(LISTED)["timeout"]


def test_uv_gets_each_index_and_no_order_of_indexes() -> None:
    assert {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "file:///one file:///two",
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_HTTP_TIMEOUT": "60",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    } == uv_settings(read_settings(LISTED))
