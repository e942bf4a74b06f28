"""The page beside the paper, of a simulated study whose trials are made the paper's nets."""

import re

import numpy as np
import pandas as pd
import pytest

from analysis.paper import PAPER_NETS
from analysis.report.compose import compose_report
from analysis.report.content import Figure, Section, Statement, TableBlock
from analysis.report.html import to_html
from analysis.report.paper_section import paper_section
from analysis.study_tables import StudyTables
from study.commands.reporting import study_tables
from tests.analysis.report.reported import assert_recomputed, evaluate, only, simulated


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> StudyTables:
    """All four nets under every setting; more units for the convolutional ones."""
    tables = study_tables(simulated(tmp_path_factory.mktemp("studies"), trials=400))
    trials = tables.trials.reset_index(drop=True)
    nets = [PAPER_NETS[place % 4] for place in range(len(trials))]
    conv = np.array([net.architecture == "paper-conv" for net in nets])
    trials = trials.assign(
        dataset=[net.dataset for net in nets],
        architecture=[net.architecture for net in nets],
        latent_dim=16,
        initialisation=np.where(np.arange(len(trials)) // 4 % 2 == 0, "glorot", "torch"),
        beta=np.where(np.arange(len(trials)) // 8 % 2 == 0, 0.25, 2.0),
        active_units=trials["active_units"].clip(upper=9) + 3 * conv,
    )
    return only(tables, trials, units=tables.units[tables.units["unit"] < 16])


def section_of(tables: StudyTables) -> Section:
    section = paper_section(tables)
    assert section is not None
    return section


def words(section: Section) -> list[str]:
    return [block.text for block in section.blocks if isinstance(block, Statement)]


def test_every_number_can_be_recomputed(tables: StudyTables) -> None:
    report = compose_report(tables)
    assert "paper" in [section.anchor for section in report.sections]
    assert assert_recomputed(report, tables) > 10
    page = to_html(report)
    assert "Beside the paper" in page


def test_it_says_what_came_out(tables: StudyTables) -> None:
    said = words(section_of(tables))
    assert [line for line in said if "(table I): the paper has 8 of 16 units active." in line]
    assert [line for line in said if "(figure 12): the paper has 12 of 16 units active." in line]
    (closest,) = [line for line in said if line.startswith("Closest to all")]
    assert "against the paper's 8, 13, 8, 12" in closest
    conv = [line for line in said if "less sparsity in convolutional nets" in line]
    assert len(conv) == 2
    assert all("under 4 of 4 settings" in line for line in conv)


def test_figure_and_tables(tables: StudyTables) -> None:
    blocks = section_of(tables).blocks
    assert [block.name for block in blocks if isinstance(block, Figure)] == [
        "paper-counts",
        "kl-by-variance",
    ]
    shown = [block for block in blocks if isinstance(block, TableBlock)]
    for block in shown:
        again = evaluate(block.recipe, tables)
        assert again.head(len(block.frame)).equals(block.frame)
    assert [len(block.frame) for block in shown] == [8, 4, 8, 16, 16]


def test_where_each_net_may_have_a_beta_of_its_own(tables: StudyTables) -> None:
    """Counts that come out at one β on MNIST, and at another on tiles."""
    trials = tables.trials
    counts = {(net.dataset, net.architecture): net.active for net in PAPER_NETS}
    paper = [counts[pair] for pair in zip(trials["dataset"], trials["architecture"], strict=True)]
    off = 2 * ((trials["beta"] == 2.0) == (trials["dataset"] == "mnist"))
    law = np.where(trials["dataset"] == "mnist", 0.99, 1.02)
    changed = only(tables, trials.assign(active_units=paper + off, variance_law_mean=law))
    said = words(section_of(changed))
    (own,) = [line for line in said if line.startswith("With a β for each net, all else equal")]
    assert own.endswith(
        ": 8.0 units at β = 0.25 (table I), 13.0 units at β = 0.25 (figure 7), 8.0 units at β = 2 "
        "(table II), 12.0 units at β = 2 (figure 12). The farthest is off by 0.0."
    )
    (pairs,) = [line for line in said if line.startswith("The paper's dense nets, trained alike")]
    assert "one of its counts in 2 of 8 pairs of β." in pairs
    assert "β = 0.25 on mnist and 2 on tiles: 8.0 and 8.0 units" in pairs
    assert_recomputed(compose_report(changed), changed)


def test_one_net_alone(tables: StudyTables) -> None:
    one = only(tables, tables.trials[tables.trials["architecture"] == "dense-256-32-24"])
    section = section_of(one)
    assert len(words(section)) == 1
    assert len([block for block in section.blocks if isinstance(block, TableBlock)]) == 2
    assert_recomputed(compose_report(one), one)


def test_other_studies_have_no_such_page(tables: StudyTables) -> None:
    assert paper_section(only(tables, tables.trials.assign(latent_dim=8))) is None
    assert paper_section(only(tables, tables.trials.head(0))) is None


def test_the_answer_leads_with_it_where_nothing_was_swept(tables: StudyTables) -> None:
    """One latent_dim says nothing of a dimension, however many groups there are."""
    learning_rates = 0.001 * (1 + tables.trials.index.to_series() % 5)
    many = only(tables, tables.trials.assign(learning_rate=learning_rates))
    report = compose_report(many)
    texts = [statement.text for statement in report.answer]
    assert not [text for text in texts if "at least" in text or "too few trials" in text]
    (none,) = [text for text in texts if "has more than one latent_dim" in text]
    assert re.match(r"None of the \d\d+ groups ", none)
    assert [text for text in texts if text.startswith("Closest to all of these counts")]
    assert_recomputed(report, many)


def test_it_comes_first_where_nothing_was_swept(tables: StudyTables) -> None:
    assert compose_report(tables).sections[0].anchor == "paper"
    halved = tables.trials.assign(latent_dim=tables.trials["latent_dim"] // 2)
    both = pd.concat([tables.trials, halved.assign(trial_id=halved["trial_id"] + "h")])
    anchors = [section.anchor for section in compose_report(only(tables, both)).sections]
    assert anchors[0] == "dimension"
    assert "paper" in anchors[1:]


def test_figure_7_and_the_quadratic_penalty(tables: StudyTables) -> None:
    trials = tables.trials.assign(epochs=20)
    controls = trials[trials["beta"] == 2.0].assign(objective="quadratic_penalty")
    controls["trial_id"] = controls["trial_id"] + "q"
    units = tables.units.assign(trial_id=tables.units["trial_id"] + "q", reconstruction_gain=1.0)
    layers = pd.DataFrame(
        {
            "trial_id": trials.loc[trials["architecture"] == "paper-conv", "trial_id"].min(),
            "position": range(2),
            "layer": ["encoder.0", "decoder.0"],
            "weight": "16x1x3x3",
            "parameters": 160,
            "running_statistics": 0,
        }
    )
    more = only(
        tables,
        pd.concat([trials, controls], ignore_index=True),
        units=pd.concat([tables.units, units], ignore_index=True),
        layers=layers,
    )
    report = compose_report(more)
    assert_recomputed(report, more)
    section = section_of(more)
    said = [line for line in words(section) if "sparsity disappears" in line]
    assert len(said) == 2
    assert re.search(r"\d units are in use on mnist, \d", said[0])
    shown = [block for block in section.blocks if isinstance(block, TableBlock)]
    (figure_7,) = [block for block in shown if "figure 7" in block.caption]
    assert evaluate(figure_7.recipe, more).equals(figure_7.frame)
    assert figure_7.frame["layer"].tolist()[:1] == ["encoder.0"]
    (claims,) = [block for block in shown if block.caption.startswith("What the paper claims")]
    assert evaluate(claims.recipe, more).equals(claims.frame)
    assert "always" in claims.frame["verdict"].tolist()
