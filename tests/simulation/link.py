"""The way between a device and its hub: it loses, delays, doubles and reorders what it carries, and fails for days."""

from dataclasses import dataclass
from typing import NamedTuple

from driftline.errors import DriftlineError
from driftline.wire.device import Reply
from tests.simulation.hub import Hub
from tests.simulation.machine import Flight, Machine
from tests.simulation.world import DAY_S, World


class Weather(NamedTuple):
    """How the link is: shares of what is lost one way, doubled, and held up for up to a day; delays in seconds."""

    name: str
    lost: float = 0.0
    doubled: float = 0.0
    held_up: float = 0.0
    delay_s: float = 0.3


GOOD = Weather("good")
POOR = Weather("poor", lost=0.3, doubled=0.1, held_up=0.05, delay_s=8)
DOWN = Weather("down", lost=1.0)


@dataclass
class Link:
    """Carries requests and answers; the weather is each machine's own."""

    world: World
    hub: Hub

    def __post_init__(self) -> None:
        self.weather: dict[int, Weather] = {}

    def carry(self, machine: Machine, flight: Flight) -> None:
        """Carry a request to the hub, and its answer back."""
        weather, rng = self.weather.get(machine.number, GOOD), self.world.rng
        for copy in range(2 if rng.random() < weather.doubled else 1):
            if copy:
                self.world.count("requests doubled")
            if rng.random() < weather.lost:
                self.world.count("requests lost")
                continue
            held_up = rng.random() < weather.held_up
            self.world.count("requests held up", held_up)
            delay_s = rng.uniform(30, DAY_S) if held_up else rng.uniform(0.02, weather.delay_s)
            self.world.later(delay_s, self._arrive, machine, machine.key, flight)

    def _arrive(self, machine: Machine, key: str, flight: Flight) -> None:
        answer = self.hub.answer(machine.name, key, flight.number, flight.body)
        if answer is None:
            return
        weather, rng = self.weather.get(machine.number, GOOD), self.world.rng
        if rng.random() < weather.lost:
            self.world.count("answers lost")
            return
        self.world.later(rng.uniform(0.02, weather.delay_s), self._return, machine, flight, answer)

    def _return(self, machine: Machine, flight: Flight, answer: Reply | DriftlineError) -> None:
        machine.hear(flight, answer)
