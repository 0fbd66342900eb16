import numpy as np
import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler
from sampler_cases import every_process

from fewlabel.process import EDM, VE, Discrete, Process
from fewlabel.samplers import grids


@every_process
@pytest.mark.parametrize("grid", [grids.karras, grids.log_snr, grids.uniform])
@pytest.mark.parametrize("steps", [2, 3, 50])
def test_grids_decrease_from_end_to_end(process: Process, grid, steps: int) -> None:
    times = grid(process, steps)
    assert times.shape == (steps,)
    assert times[0].item() == process.t_max
    assert times[-1].item() == process.t_min
    assert (times.diff() < 0).all()


@every_process
def test_the_spacing_of_the_grids(process: Process) -> None:
    ends = torch.tensor([process.t_max, process.t_min], dtype=torch.float64)
    high, low = process.noise_ratio(ends).tolist()
    for rho in (7.0, 3.0):
        ratios = process.noise_ratio(grids.karras(process, 20, rho))
        expected = [
            (high ** (1 / rho) + i / 19 * (low ** (1 / rho) - high ** (1 / rho))) ** rho
            for i in range(20)
        ]
        np.testing.assert_allclose(ratios.numpy(), expected, rtol=1e-9)
    even = process.noise_ratio(grids.log_snr(process, 20))
    np.testing.assert_allclose(even.numpy(), np.geomspace(high, low, 20), rtol=1e-9)
    times = np.linspace(process.t_max, process.t_min, 20)
    np.testing.assert_allclose(grids.uniform(process, 20).numpy(), times, rtol=1e-12)


def test_the_grid_of_a_process_without_signal_at_its_end_begins_where_there_is_some() -> None:
    process = Discrete("squaredcos_cap_v2")
    times = grids.karras(process, 20)
    assert times[0].item() == process.t_max
    ends = 160.0, process.noise_ratio(torch.tensor(0.0, dtype=torch.float64)).item()
    expected = np.linspace(ends[0] ** (1 / 7), ends[1] ** (1 / 7), 19) ** 7
    np.testing.assert_allclose(process.noise_ratio(times[1:]).numpy(), expected, rtol=1e-9)


def test_a_variance_exploding_process_is_even_in_both() -> None:
    process = VE(0.02, 20.0)
    torch.testing.assert_close(
        grids.log_snr(process, 50), grids.uniform(process, 50), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    ("schedule", "grid"), [("karras", grids.karras), ("exponential", grids.log_snr)]
)
def test_grids_agree_with_diffusers(schedule: str, grid) -> None:
    scheduler = EDMDPMSolverMultistepScheduler(0.003, 60.0, sigma_schedule=schedule)
    scheduler.set_timesteps(17)
    ours = grid(EDM(0.003, 60.0), 17)
    torch.testing.assert_close(ours.float(), scheduler.sigmas[:-1], rtol=1e-5, atol=0)
