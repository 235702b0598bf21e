"""What the supervised trainings share."""

import pytest
import torch

from dissect.training.fit import one_cycle


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 20, 100])
def test_a_cycle_of_any_length_has_a_rate_at_every_step(steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    schedule, rates = one_cycle(optimizer, 1.0, steps), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < steps:
            schedule.step()
    assert all(0 < rate <= 1 for rate in rates)
