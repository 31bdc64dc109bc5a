"""Tables of an experiment on disk, filled by hand."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest

from falloff.run import Run
from falloff.study.store import Measuring
from falloff.study.tables import Tables, rounded

BASE = Run(dataset="digits", precision="float32", form="eager")
CHOOSING, LATE = Measuring(split="choosing", metrics=("ap",), threshold="own"), Measuring(metrics=("ap", "error"))
DECODED = Measuring(metrics=("ap",), decoder={"refine": "parabola"})
SAID = {"code": "1234e56789", "seconds": 1.25, "commit": "012345678901", "device_model": "any",
        "finished": "2026-01-01T00:00:00+00:00"}
# Shortest decimals that a reader in a hurry gets wrong in the last bit.
AWKWARD = (0.1 + 0.2, 1 / 3, 2 / 3 * 1e-7, 0.123456, 0.999999499, 5e-324, 123456.7)


def named(asked, **numbers):
    return {asked.title: {"by": asked.code, **numbers}}


@pytest.fixture
def tables():
    """Three runs under four arms: one with pictures, one with other losses and NaN, one that diverged."""
    found = Tables(BASE)
    pictures = [0.25, 0.5, 0.75, 1.0]
    found.add("aaa", BASE, SAID, named(CHOOSING, ap=1 / 3) | named(LATE, ap=2 / 3, error=math.nan, by_picture=pictures)
              | named(DECODED, ap=0.5), [{"step": 5, "ap": 1 / 7}, {"step": 10, "ap": 0.9}])
    found.add("bbb", BASE.replace(loss="mse", loss_options={"sigma": 0.75}, seed=3), SAID,
              named(CHOOSING, ap=1.0) | named(LATE, ap=1.0, error=math.inf), [{"step": 5, "ap": math.nan}])
    found.add("ccc", BASE.replace(learning_rate=0.1), {"code": "c", "failure": "FloatingPointError: diverged, at 3"},
              {}, [])
    arms = (("aaa", "one", "reported", None, 0), ("bbb", "two, sigma 0.75", "reported", 3, 3),
            ("aaa", "one", "carried", 7, 0), ("ccc", "three", "reported", None, 0))
    found.arms = [dict(zip(("key", "arm", "role", "trial", "seed"), arm, strict=True)) for arm in arms]
    return found


@pytest.fixture
def written(tables, tmp_path):
    """Where the manifest of the tables would be, and the digests of their files."""
    path = tmp_path / "pair.json"
    return path, tables.write(path)


def read(written):
    path, digests = written
    return Tables.read(path, BASE, digests)


def same(one, other):
    """Whether two tables say the same, whatever they are made of."""
    pd.testing.assert_frame_equal(one.frame(), other.frame(), check_dtype=False, check_like=True)
    pd.testing.assert_frame_equal(one.measured(), other.measured(), check_dtype=False)
    pd.testing.assert_frame_equal(one.along(), other.along(), check_dtype=False)
    assert {key: one.run(key) for key in one.runs} == {key: other.run(key) for key in other.runs}


def test_what_is_read_is_what_was_written(tables, written):
    found = read(written)
    same(tables, found)
    assert repr(found.arms) == repr(tables.arms)
    assert sorted(path.name for path in written[0].parent.iterdir()) == [
        "pair.arms.csv", "pair.curves.csv", "pair.numbers.csv", "pair.pictures.npz", "pair.runs.csv"]
    assert {what: found.runs["aaa"][what] for what in SAID} == SAID  # also a code that looks like a number
    assert found.write(written[0]) == written[1]  # and so once more


def test_numbers_are_recorded_to_six_digits_and_read_to_the_last_bit(tables, tmp_path):
    assert [rounded(value) for value in (1 / 3, 123456.7, 1e-9 / 3, 2, "a", math.inf)] == [
        0.333333, 123457.0, 3.33333e-10, 2, "a", math.inf]
    assert math.isnan(rounded(math.nan))
    tables.numbers["aaa"][LATE.title] |= {f"number {place}": value for place, value in enumerate(AWKWARD)}
    found = Tables.read(tmp_path / "pair.json", BASE, tables.write(tmp_path / "pair.json"))
    for place, value in enumerate(AWKWARD):
        assert found.numbers["aaa"][LATE.title][f"number {place}"] == value


def test_a_row_has_the_run_its_arm_and_what_was_measured_by_the_systems_own_decoder(written):
    rows = read(written).frame().to_dict("records")
    assert [(row["arm"], row["role"], row["loss"], row["seed"]) for row in rows] == [
        ("one", "reported", "distance-aware", 0), ("two, sigma 0.75", "reported", "mse", 3),
        ("one", "carried", "distance-aware", 0), ("three", "reported", "distance-aware", 0)]
    assert [row["ap"] for row in rows[:3]] == [0.666667, 1.0, 0.666667]
    assert [row["val_ap"] for row in rows[:2]] == [0.333333, 1.0]
    assert [row["steps_to_ap"] for row in rows[:1]] == [10]  # of the curve
    assert rows[1]["loss_options"]["sigma"] == 0.75 and rows[1]["trial"] == 3
    assert "by" not in rows[0] and "by_picture" not in rows[0]


def test_what_is_undefined_is_missing_and_what_is_infinite_stays(written):
    rows = read(written).frame()
    assert math.isnan(rows["error"][0]) and rows["error"][1] == math.inf
    assert rows["trial"].isna().tolist() == [True, False, False, True]


def test_a_run_that_diverged_has_a_row_with_its_reason_and_no_number(written):
    rows = read(written).frame()
    assert rows["failure"][3] == "FloatingPointError: diverged, at 3" and rows["failure"][:3].isna().all()
    assert math.isnan(rows["ap"][3]) and math.isnan(rows["val_ap"][3]) and math.isnan(rows["steps_to_ap"][3])


def test_what_other_decoders_gave_is_told_by_split_and_option(written):
    found = read(written).measured()
    assert found.groupby("measured")["ap"].apply(list).to_dict() == {
        "choosing": [0.333333, 1.0, 0.333333], "test": [0.666667, 1.0, 0.666667], "test refine=parabola": [0.5, 0.5]}


def test_pictures_are_kept_by_run_and_metric(written):
    found = read(written).pictures
    assert found.keys() == {"aaa"} and found["aaa"].keys() == {"by_picture"}
    assert np.array_equal(found["aaa"]["by_picture"], [0.25, 0.5, 0.75, 1.0])


def test_lists_of_one_metric_may_have_several_lengths_and_a_decoders_name(tables, tmp_path):
    lists = {"aaa": {"errors": [1.0, math.inf], "ap window=3": [0.5]}, "bbb": {"errors": [2.0, math.nan]},
             "ccc": {"errors": [3.0]}}
    tables.pictures = {key: {name: np.array(values, np.float16) for name, values in some.items()}
                       for key, some in lists.items()}
    found = Tables.read(tmp_path / "pair.json", BASE, tables.write(tmp_path / "pair.json")).pictures
    assert str({key: {name: values.tolist() for name, values in some.items()} for key, some in found.items()}) == (
        str({"aaa": lists["aaa"], "bbb": lists["bbb"], "ccc": lists["ccc"]}))


def test_tables_without_pictures_have_no_file_of_them(tables, tmp_path):
    tables.pictures.clear()
    digests = tables.write(tmp_path / "pair.json")
    assert "pictures.npz" not in digests and not (tmp_path / "pair.pictures.npz").exists()
    assert Tables.read(tmp_path / "pair.json", BASE, digests).pictures == {}


def test_tables_of_nothing_can_be_written_and_read(tmp_path):
    found = Tables.read(tmp_path / "pair.json", BASE, Tables(BASE).write(tmp_path / "pair.json"))
    assert (found.runs, found.numbers, found.curves, found.pictures, found.arms) == ({}, {}, {}, {}, [])
    assert found.frame().empty and found.measured().empty and found.along().empty


@pytest.mark.parametrize("name", ["arms.csv", "runs.csv", "numbers.csv", "curves.csv", "pictures.npz"])
@pytest.mark.parametrize("how", ["changed", "truncated", "missing"])
def test_a_file_that_is_not_as_it_was_written_is_named(written, name, how):
    path = written[0].with_name(f"pair.{name}")
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if how == "changed" else content[: len(content) // 2])
    says = "cannot be read" if how == "missing" else "is not the table that pair.json was written for"
    with pytest.raises(ValueError, match=f"pair.{name} {says}"):
        read(written)


@pytest.mark.parametrize("name", ["arms.csv", "runs.csv", "numbers.csv", "curves.csv"])
def test_a_manifest_that_lacks_a_files_digest_is_named(written, name):
    path, digests = written
    with pytest.raises(ValueError, match=f"pair.json has no digest of {name}"):
        Tables.read(path, BASE, {which: digest for which, digest in digests.items() if which != name})


# What is there already.


def test_a_run_is_there_when_all_that_is_asked_was_measured_by_todays_code(tables):
    assert tables.has("aaa", [CHOOSING, LATE, DECODED]) and tables.has("bbb", [LATE])
    assert not tables.has("bbb", [CHOOSING, DECODED]) and not tables.has("ddd", [])
    assert not tables.has("aaa", [dataclasses.replace(LATE, metrics=("ap", "f1"))])
    tables.numbers["aaa"][LATE.title]["by"] = "of before"
    assert not tables.has("aaa", [LATE]) and tables.has("aaa", [CHOOSING])
    assert tables.has("ccc", [LATE])  # it diverged: there is no more to know


def test_a_list_that_is_measured_later_leaves_the_others_of_its_run(tables):
    before = tables.pictures["aaa"]["by_picture"].tolist()
    tables.add("aaa", tables.run("aaa"), SAID, named(DECODED, other_by_picture=[0.5, 0.5]), tables.curves["aaa"])
    assert tables.pictures["aaa"]["by_picture"].tolist() == before
    assert tables.pictures["aaa"]["other_by_picture refine=parabola"].tolist() == [0.5, 0.5]


def test_an_arm_is_told_by_its_own_decoder(tables, tmp_path):
    own, other = (named(one, ap=ap, ap_by_picture=[ap, ap]) for one, ap in ((LATE, 0.75), (DECODED, 0.25)))
    tables.add("ddd", BASE.replace(seed=9), SAID, own | other, [])
    arms = [{"key": "ddd", "arm": name, "role": "reported", "trial": None, "seed": 9, **decoder}
            for name, decoder in (("plain", {}), ("decoded", {"decoder": "refine=parabola"}))]
    tables.only(arms)
    found = Tables.read(tmp_path / "pair.json", BASE, tables.write(tmp_path / "pair.json"))
    assert found.arms == arms
    assert found.frame()["ap"].tolist() == [0.75, 0.25]
    assert found.evidence().pictures["ap"].tolist() == [[0.75, 0.75], [0.25, 0.25]]


def test_what_is_measured_later_joins_what_was_measured(tables):
    tables.add("bbb", tables.run("bbb"), SAID, named(DECODED, ap=0.25), tables.curves["bbb"])
    assert tables.has("bbb", [CHOOSING, LATE, DECODED])


def test_an_update_takes_over_runs_whatever_they_are_told_from(tables):
    other = Tables(BASE.replace(steps=70, seed=9), where={"machine": {"model": "other"}})
    other.add("ddd", BASE.replace(seed=9), SAID, named(LATE, ap=0.5, by_picture=[1.0]), [])
    other.add("bbb", tables.run("bbb"), SAID, named(LATE, ap=0.75), [])
    tables.update(other)
    assert tables.run("ddd").describe() == BASE.replace(seed=9).describe()
    assert json.loads(tables.runs["ddd"]["changes"]) == {"seed": 9}
    assert (tables.run("bbb").loss, tables.run("bbb").loss_options["sigma"]) == ("mse", 0.75)
    assert tables.numbers["bbb"]["test"]["ap"] == 0.75 and tables.numbers["aaa"]["test"]["ap"] == 0.666667
    assert tables.pictures["ddd"]["by_picture"].tolist() == [1.0] and "aaa" in tables.pictures
    assert tables.where == {"machine": {"model": "other"}} and len(tables.arms) == 4


def test_only_keeps_what_belongs_to_some_arms(tables):
    arms = [tables.arms[1], tables.arms[3]]
    tables.only(arms)
    assert list(tables.runs) == ["bbb", "ccc"] and tables.arms == arms and not tables.pictures
    assert tables.frame()["arm"].tolist() == ["two, sigma 0.75", "three"]


def test_a_frame_may_be_of_some_arms_alone(tables):
    assert tables.frame(tables.arms[:1])["arm"].tolist() == ["one"]


def test_evidence_is_what_is_reported_with_the_metrics_that_are_known_of_each_picture(tables):
    tables.pictures = {"aaa": {"ap_by_picture": np.array([0.25, 0.5], np.float16), "error_of_points": np.zeros(9)},
                       "bbb": {"ap_by_picture": np.array([0.5, 1.0], np.float16),
                               "pck_mean_by_picture": np.zeros(3)}}
    found = tables.evidence()
    assert found.table["arm"].tolist() == ["one", "two, sigma 0.75", "three"]  # not what was carried
    np.testing.assert_array_equal(found.pictures["ap"], [[0.25, 0.5], [0.5, 1.0], [math.nan, math.nan]])
    assert found.pictures["pck_mean"].shape == (3, 3) and found.pictures.keys() == {"ap", "pck_mean"}
    tables.pictures["aaa"]["pck_mean_by_picture"] = np.zeros(4)
    assert tables.evidence().pictures.keys() == {"ap"}  # of other pictures nothing can be told together
