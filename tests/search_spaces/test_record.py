"""What a spec may ask to have recorded: short forms, defaults, and what is refused."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import (
    BadInput,
    DeteriorationProbe,
    RecordSettings,
    TrajectorySettings,
    dump_spec,
    load_spec,
)

MINIMAL = {"study": "s", "dataset": "mnist", "axes": {"architecture": "linear", "latent_dim": 2}}


def record(**settings):
    return load_spec(MINIMAL | {"record": settings}).record


def test_a_spec_that_asks_for_nothing_gets_no_further_tables():
    assert record() == RecordSettings()
    assert record(every=1, models=True).further_tables == ()


@pytest.mark.parametrize(
    ("settings", "tables"),
    [
        ({"samples": 1}, ("samples",)),
        ({"reconstructions": 1}, ("samples",)),
        ({"encodings": 1}, ("encodings",)),
        ({"trajectory": {}}, ("encodings",)),
        ({"probe": "deterioration"}, ("probes",)),
        ({"samples": 2, "trajectory": {}, "probe": {}}, ("samples", "encodings", "probes")),
    ],
)
def test_each_table_is_there_for_what_asks_for_it(settings, tables):
    assert record(**settings).further_tables == tables


def test_short_forms_and_defaults():
    assert record(probe="deterioration").probe == DeteriorationProbe()
    assert record(probe={"increment": 0.2}).probe == DeteriorationProbe(increment=0.2)
    assert record(probe=None).probe is None
    assert record(trajectory={"images": 1}).trajectory == TrajectorySettings(images=1)
    overridden = load_spec(
        MINIMAL | {"record": {"probe": "deterioration"}}, ["record.probe.recovery_epochs=3"]
    )
    assert overridden.record.probe == DeteriorationProbe(recovery_epochs=3)


BAD = [
    ({"samples": -1}, "record.samples: -1 is not allowed; give a whole number of 0 or more"),
    ({"samples": True}, "record.samples: true is not allowed; give a whole number"),
    ({"encodings": 2.5}, "record.encodings: 2.5 is not allowed; give a whole number"),
    ({"trajectory": 3}, "record.trajectory: 3 is not allowed; give a mapping of its fields"),
    ({"trajectory": {"every": 1}}, "record.trajectory.every: unknown key (did you mean 'every_st"),
    ({"trajectory": {"every_steps": 0}}, "record.trajectory.every_steps: 0 is not allowed; give"),
    ({"probe": "deteriorate"}, "record.probe: 'deteriorate' is not a probe (did you mean 'deter"),
    ({"probe": {"name": 3}}, "record.probe: 3 is not a probe (choose from 'deterioration')"),
    ({"probe": {"increments": 1}}, "record.probe.increments: unknown key (did you mean 'increm"),
    ({"probe": {"increment": 0}}, "record.probe.increment: 0 is not allowed; give a number above"),
    ({"probe": {"most": 0.05}}, "record.probe.most: 0.05 is less than one increment of 0.1, so"),
    ({"probe": {"unit": "big"}}, "record.probe.unit: 'big' is not allowed (choose from 'largest'"),
    ({"probe": {"collapsed_variance": 1}}, "record.probe.collapsed_variance: 1 is not allowed;"),
]


@pytest.mark.parametrize(("settings", "message"), BAD, ids=[message for _, message in BAD])
def test_what_is_refused(settings, message):
    with pytest.raises(BadInput) as error:
        record(**settings)
    assert str(error.value).startswith(message)


counts = st.integers(0, 10**9)
probes = st.builds(
    DeteriorationProbe,
    unit=st.sampled_from(["median", "largest", "smallest"]),
    settling_epochs=counts,
    increment=st.floats(1e-6, 1),
    most=st.floats(1, 1e6),
    collapsed_variance=st.floats(0.01, 0.99),
    collapse_epochs=counts,
    recovery_epochs=counts,
)


@given(
    samples=counts,
    reconstructions=counts,
    encodings=counts,
    trajectory=st.none()
    | st.builds(TrajectorySettings, images=st.integers(1, 99), every_steps=st.integers(1, 99)),
    probe=st.none() | probes,
)
def test_any_settings_survive_the_dump(**settings):
    spec = load_spec(MINIMAL).model_copy(update={"record": RecordSettings(**settings)})
    assert load_spec(yaml.safe_load(dump_spec(spec))) == spec
