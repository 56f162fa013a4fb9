"""A clock for tests in a world of true time: its crystal gains, its wall clock is wrong, somebody sets it."""

from driftline.clock import NS_PER_S, ManualClock
from driftline.edge.timekeeping import Sample


class Crystal(ManualClock):
    """A device's clock: its crystal gains `ppm`, its wall clock shows `wall_ns` at the true time `true_ns`."""

    def __init__(self, boot: str, true_ns: int, wall_ns: int, ppm: float = 0.0) -> None:
        super().__init__(wall_ns, boot=boot)
        self.true_ns = true_ns
        self._ppm = ppm

    def live(self, seconds: float) -> None:
        """Let true time pass."""
        self.true_ns += int(seconds * NS_PER_S)
        self.advance(seconds * (1 + self._ppm * 1e-6))

    def ask(self, round_trip_s: float = 0.0, share: float = 0.5) -> Sample:
        """Ask a hub whose clock is right for the time; `share` of the round trip is the way there."""
        sent_ns = self.steady_ns()
        self.live(round_trip_s * share)
        hub_ns = self.true_ns
        self.live(round_trip_s * (1 - share))
        return Sample.of_reply(sent_ns, self.steady_ns(), hub_ns)
