"""Panoptic FPN with IFA against itself without."""

import pytest

from ifa_d2.analysis.benchmarks import panoptic_tables, run_panoptic


def test_models_differ_in_the_branch_alone() -> None:
    cases = [("model", "forward"), ("branch", "forward")]
    result = run_panoptic(input_size=(64, 96), repeats=1, device="cpu", cases=cases)
    rows = {(row["part"], row["model"]): row for row in result["rows"]}
    assert set(rows) == {
        *(("model", name) for name in ("IFA", "IFA, labels", "SemSegFPNHead")),
        *(("branch", name) for name in ("IFA", "SemSegFPNHead")),
    }
    for (part, _), row in rows.items():
        for key in ("macs", "params"):
            assert row[f"{key}_ratio"] == pytest.approx(row[key] / rows[part, "IFA"][key])
        assert row["time_ratio"] > 0 and row["mib"] > 0
    for key in ("macs", "params"):
        whole, branch = (
            rows[part, "SemSegFPNHead"][key] - rows[part, "IFA"][key]
            for part in ("model", "branch")
        )
        assert whole == branch > 0
    assert "whole model" in panoptic_tables(result)
