"""Latency grids: reading, what cannot be a measurement, fitting and interpolating."""

import gzip
import random

import numpy as np
import pytest

from mbexp.config.gpu_keys import GpuConfig, LawConfig
from mbexp.errors import UserError
from mbexp.hardware import build_law
from mbexp.hardware.grid import generated_reasons, read_grid
from mbexp.hardware.laws.grid_fit import fit_affine

ORIGINAL_GRID = "rtx4080_qwen3_1_7b_generated.csv"
HEADER = "batch_size,max_seq_len,mean_latency_sec\n"
SIZES, LENGTHS = (1, 2, 4, 8, 16, 32), (128, 256, 512, 1024, 2048)


def write(tmp_path, text):
    path = tmp_path / "grid.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def measured(b, n):
    """Return a time that grows like a real one: a step with a context term, so convex in the length."""
    return 0.02 + n * (0.004 + 0.00005 * b) + 4e-8 * b * n**2


def write_measured(tmp_path, noise=0.0, seed=0, spread="drawn", skip=(), sizes=SIZES):
    rng = np.random.default_rng(seed)
    lines = ["batch_size,max_seq_len,mean_latency_sec,std_latency_sec,num_trials"]
    for b in sizes:
        for n in LENGTHS:
            trials = measured(b, n) * (1 + noise * rng.standard_normal(5))
            if (b, n) not in skip:
                lines.append(f"{b},{n},{trials.mean():.6f},{trials.std(ddof=1):.6f},5")
    return write(tmp_path, "\n".join(lines) + "\n")


def test_original_grid_is_called_generated_for_both_reasons():
    reasons = generated_reasons(read_grid(ORIGINAL_GRID))
    assert len(reasons) == 2
    assert "0.07 of the mean at every one of 30 points" in reasons[0]
    assert "exactly affine" in reasons[1]


@pytest.mark.parametrize("noise", [0.003, 0.01, 0.05])
@pytest.mark.parametrize("seed", range(5))
def test_noisy_grid_is_not_called_generated(tmp_path, noise, seed):
    assert generated_reasons(read_grid(write_measured(tmp_path, noise, seed))) == []


def test_columns_in_any_order_bom_and_crlf(tmp_path):
    path = tmp_path / "grid.csv"
    path.write_bytes(
        "\ufeffmax_seq_len, mean_latency_sec,batch_size\r\n10,0.1,1\r\n20,0.2,1\r\n10,.3,2\r\n20,.4,2".encode()
    )
    grid = read_grid(str(path))
    assert grid.batch_size.tolist() == [1, 1, 2, 2]
    assert grid.mean_s.tolist() == [0.1, 0.2, 0.3, 0.4]
    assert grid.notes == ()


def test_rows_out_of_order_are_sorted_and_said(tmp_path):
    grid = read_grid(write(tmp_path, HEADER + "2,20,.4\n1,10,.1\n2,10,.3\n1,20,.2\n"))
    assert grid.mean_s.tolist() == [0.1, 0.2, 0.3, 0.4]
    assert grid.notes == ("grid.csv: rows were not in order of batch_size, max_seq_len; sorted",)


def test_missing_combinations_are_listed(tmp_path):
    grid = read_grid(write_measured(tmp_path, skip={(32, 2048), (16, 2048)}))
    assert "2 combinations of (batch_size, max_seq_len) are missing: (16, 2048), (32, 2048)" in grid.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no column batch_size"),
        (HEADER, r"no rows below the header"),
        ("batch,max_seq_len,mean_latency_sec\n1,2,3\n", r"no column batch_size; it has batch|did you mean 'batch'"),
        ("batch_size,max_seq_len,mean_latency\n1,2,3\n", r"no column mean_latency_sec \(did you mean 'mean_latency'"),
        (HEADER + "1,10,0.1\n1,20,-0.2\n", r"line 3: mean_latency_sec=-0\.2 must be above zero"),
        (HEADER + "1,10,0.1\n1,20,nan\n", r"line 3: mean_latency_sec=nan must be above zero and finite"),
        (HEADER + "1,10,0.1\n1,20,\n", r"line 3: mean_latency_sec='' is not a number"),
        (HEADER + "1,10,fast\n", r"line 2: mean_latency_sec='fast' is not a number"),
        (HEADER + "1,10\n", r"line 2: mean_latency_sec=None is not a number"),
        (HEADER + "1.5,10,0.1\n", r"line 2: batch_size=1\.5 must be a whole number"),
        (HEADER + "0,10,0.1\n", r"line 2: batch_size=0 must be above zero"),
        (HEADER + "1,10,0.1\n2,10,.2\n1,10,0.1\n", r"batch_size 1, max_seq_len 10 is given twice"),
        (HEADER + "4,10,0.1\n4,20,0.2\n", r"one batch_size only \(4\)"),
        (HEADER + "1,10,0.1\n2,10,0.2\n", r"one max_seq_len only \(10\)"),
        (
            HEADER + "1,128,800\n1,256,1550\n2,128,880\n2,256,1710\n",
            r"looks like milliseconds: its median is 6\.\d+ s a",
        ),
    ],
)
def test_wrong_grid_is_one_clear_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        read_grid(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_column_in_seconds_is_taken_at_its_word(tmp_path):
    slow = read_grid(write(tmp_path, "batch_size,max_seq_len,mean_latency_s\n1,8,80\n1,16,160\n2,8,90\n2,16,170\n"))
    assert slow.mean_s.max() == 170


def test_no_such_grid():
    with pytest.raises(UserError, match="no such grid file here, under data/ or among the package's own"):
        read_grid("nowhere.csv")


def test_fit_recovers_the_coefficients_it_was_made_from(tmp_path):
    rows = [f"{b},{n},{0.03 + 0.004 * n * (1 + 0.7 * (b - 1) / b)!r}" for b in SIZES for n in LENGTHS]
    grid = read_grid(write(tmp_path, HEADER + "\n".join(rows)))
    assert fit_affine(grid) == pytest.approx((0.03, 0.004, 0.7), rel=1e-6)


def test_fit_never_prices_below_zero(tmp_path):
    # A line through these points would start below zero.
    path = write(tmp_path, HEADER + "1,100,0.05\n1,200,0.2\n2,100,0.06\n2,200,0.21\n")
    law = build_law(GpuConfig(law=LawConfig(kind="grid_fit", path=path)))
    assert law.batch.parameters[0] == 0
    assert law.service(1, 1, 1)[0] > 0


def test_fit_to_times_that_do_not_grow(tmp_path):
    path = write(tmp_path, HEADER + "1,100,0.2\n1,200,0.1\n2,100,0.2\n2,200,0.1\n")
    with pytest.raises(UserError, match="do not grow with the length"):
        build_law(GpuConfig(law=LawConfig(kind="grid_fit", path=path)))


def interpolation(path, length="prompt_plus_output"):
    return build_law(GpuConfig(law=LawConfig(kind="grid_interpolation", path=path, length=length)))


def test_interpolation_passes_through_every_point_and_states_its_range(tmp_path):
    path = write_measured(tmp_path)
    law = interpolation(path)
    for b in SIZES:
        for n in LENGTHS:
            assert law.service(b, 28, n - 28)[0] == pytest.approx(measured(b, n), abs=1e-6)
    assert law.batch_size_range == (1, 32)
    assert law.length_range_tokens == (128, 2048)
    assert interpolation(path, "output").service(4, 9999, 512)[0] == pytest.approx(measured(4, 512), abs=1e-6)


def test_interpolation_between_points_is_close(tmp_path):
    law = interpolation(write_measured(tmp_path))
    for b in (1, 3, 6, 12, 24):
        for n in (180, 400, 700, 1500):
            assert law.service(b, 1, n - 1)[0] == pytest.approx(measured(b, n), rel=0.01)


def test_interpolation_continues_the_last_slope_beyond_the_grid(tmp_path):
    law = interpolation(write(tmp_path, HEADER + "2,10,1\n2,20,2\n6,10,3\n6,20,5\n"))
    assert law.service(2, 1, 39)[0] == pytest.approx(4)
    # Between batches 2 and 6 the times grew from 3 to 8 in sum: a member adds (1 - 3/8) / 4 of the last.
    assert law.service(14, 1, 19)[0] == pytest.approx(5 * (1 + 8 * (1 - 3 / 8) / 4))
    assert law.service(1, 1, 19)[0] == pytest.approx(2)  # below the smallest batch its time holds
    assert law.service(2, 1, 4)[0] == pytest.approx(0.5)
    # Batch 6: 1 s at length 0, then .2 s a token.
    assert law.service(6, 1, 19)[1:] == pytest.approx((1.0, 0.2))


@pytest.mark.parametrize("seed", range(10))
def test_interpolation_of_noisy_points_is_monotone_and_never_negative(tmp_path, seed):
    law = interpolation(write_measured(tmp_path, noise=0.3, seed=seed, skip={(32, 2048), (1, 128), (4, 512)}))
    assert any("made monotone" in note for note in law.notes)
    sizes = [*range(1, 34), 64, 300]
    lengths = [*range(2, 2200, 37), 5000, 40_000]
    prices = np.array([[law.service(b, 1, n - 1) for n in lengths] for b in sizes])
    assert np.all(prices >= 0)
    assert np.all(np.diff(prices[..., 0], axis=1) >= -1e-12)
    assert np.all(np.diff(prices[..., 0], axis=0) >= -1e-12)


def test_interpolation_fills_points_that_ran_out_of_memory(tmp_path):
    law = interpolation(write_measured(tmp_path, skip={(32, 1024), (32, 2048)}))
    full = interpolation(write_measured(tmp_path))
    assert law.service(32, 1, 511)[0] == pytest.approx(full.service(32, 1, 511)[0])
    assert law.service(32, 1, 2047)[0] == pytest.approx(measured(32, 2048), rel=0.1)
    assert any("2 combinations" in note for note in law.notes)


def test_interpolation_needs_two_rows_of_two(tmp_path):
    with pytest.raises(UserError, match="two batch sizes with at least two lengths each"):
        interpolation(write(tmp_path, HEADER + "1,10,1\n1,20,2\n2,10,3\n"))


def test_provenance_says_generated_only_of_the_generated_grid(tmp_path):
    assert "a grid that looks generated" in interpolation(ORIGINAL_GRID).provenance
    assert interpolation(write_measured(tmp_path, 0.01)).provenance == "interpolated from the grid grid.csv"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"batch_size,max_seq_len\n1,128\n", mtime=0), "is compressed (gzip): unpack it first"),
        ("batch_size,max_seq_len,mean_latency_sec\n1,128,1\n".encode("utf-16"), "is UTF-16 text: save it as UTF-8"),
        (b"batch_size,max_seq_len,mean_latency_sec,who\n1,128,1,caf\xe9\n", ", line 2: is not UTF-8 text (Latin-1?)"),
        (b"PAR1\0\0\0", "is a Parquet file, not text"),
        (b"batch_size;max_seq_len;mean_latency_sec\n1;128;1\n", "are separated by semicolons, not by commas"),
        (b"batch_size\tmax_seq_len\n1\t128\n", "its columns are separated by tabs, not by commas"),
        (b"batch_size,batch_size,mean_latency_sec\n1,128,1\n", "more than one is called batch_size"),
        (b"batch_size,max_seq_len,mean_latency_sec\n1e20,128,1\n", "batch_size=1e20 must be between 1e-12 and 1e+09"),
        (b'batch_size,max_seq_len,mean_latency_sec\n1,128,"' + b"1" * 200_000, "field larger than field limit"),
        (b"", "no column batch_size"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_grid_is_one_line(tmp_path, content, message):
    (tmp_path / "grid.csv").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_grid(str(tmp_path / "grid.csv"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["grid_fit", "grid_interpolation"])
def test_a_damaged_grid_is_read_or_refused_in_words(tmp_path, kind):
    rng = random.Random(kind)
    rows = [f"{b},{n},{measured(b, n):.4f},5" for b in (1, 2, 4) for n in (128, 256, 512)]
    whole = (HEADER.rstrip("\n") + ",num_trials\n" + "\n".join(rows) + "\n").encode()
    slips = [b"\n", b"\r", b'"', b",", b"\0", b"nan", b"-", b"1e400", b"9" * 25, b"\xff\xfe", b"", b"0", b"e"]
    read, refused = 0, []
    for _ in range(100):
        content = bytearray(whole)
        for _ in range(rng.choice([1, 1, 2])):
            place = rng.randrange(len(content))
            content[place : place + rng.choice([0, 0, 1, 20])] = rng.choice([*slips, bytes([rng.randrange(256)])])
        (tmp_path / "grid.csv").write_bytes(content)
        try:
            build_law(GpuConfig(law=LawConfig(kind=kind, path=str(tmp_path / "grid.csv"))))
            read += 1
        except UserError as error:
            refused.append(str(error))
    assert read > 5
    assert not [line for line in refused if "\n" in line]
