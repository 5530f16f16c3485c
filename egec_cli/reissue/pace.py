"""The pace of a run: its quotas, the slower rate that the mail server asks for, and when its next mails may leave."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from egec_cli.context import Context
from egec_cli.credentials import quotas
from egec_cli.credentials.quotas import RunLimits
from egec_cli.reissue import endings, items, runs
from egec_cli.reissue.runs import Orders
from egec_cli.reissue.server_watch import ServerWatch, is_accepted, is_throttled
from egec_cli.reissue.threads import FinishedJob
from egec_cli.reissue.throttle import Throttle, slow_down, speed_up
from egec_cli.store.models import ReissueRun


class Pace:
    """The pace of one worker; its functions run inside the transaction of a turn."""

    def __init__(self, context: Context, run: ReissueRun, watch: ServerWatch) -> None:
        self._context = context
        self._run = run
        self._watch = watch

    def limits(self, orders: Orders) -> RunLimits:
        """Return what limits the mails of the run at present."""
        # Until a mail is accepted again, the wait after each refusal is long enough.
        slowest = None if orders.throttle is None or orders.throttle.is_probing else orders.throttle.rate
        return RunLimits(orders.rate, self._context.settings.mail_reserve, slowest)

    def adapt_rate(self, orders: Orders, finished: Sequence[FinishedJob], at: datetime) -> Throttle | None:
        """Slow the run down for each refusal that asks for it, and speed it up again for accepted mails."""
        accepted = sum(map(is_accepted, finished))
        if accepted and orders.pauses:
            runs.forget_pauses(self._run)
        throttled = [one for one in finished if is_throttled(one)]
        if not throttled and (orders.throttle is None or not accepted):
            return orders.throttle
        now = time.monotonic()

        def change(throttle: Throttle | None) -> Throttle | None:
            if throttle is not None and accepted:
                throttle = speed_up(throttle, accepted)
            for one in throttled:
                began_at = at - timedelta(seconds=now - one.began_at)
                # Mails that were under way when the rate was halved say nothing about the new one. A later time was
                # stored before the clock was set back.
                if throttle is None or not began_at < throttle.refused_at <= at:
                    throttle = slow_down(throttle, self._speed(orders), endings.refusal_words(one), at)
            return throttle

        return runs.change_throttle(self._run, change)

    def _speed(self, orders: Orders) -> float:
        """Return the present speed, in mails per second."""
        speed = self._watch.accepted_per_second() or 1.0
        limits = self.limits(orders._replace(throttle=None))
        return min(speed, timedelta(seconds=1) / limits.interval) if limits.is_limited else speed

    def plan_departures(
        self, orders: Orders, at: datetime, *, waiting: int, unanswered: int, unsettled: int, most: int
    ) -> list[datetime]:
        """Return when the next mails may leave: immediately if nothing limits them.

        Args:
            waiting: the number of mails that could leave.
            unanswered: the number of mails that have no answer yet.
            unsettled: the number of mails whose answer is not settled yet.
            most: how many mails may be unanswered.
        """
        throttle, limits = orders.throttle, self.limits(orders)
        if throttle is not None:
            if throttle.is_waiting(at):
                return []
            if throttle.is_probing:
                most = 1
        room = min(waiting, most - unanswered)
        if not limits.is_limited:
            return [at] * room
        # Mails under way count already.
        return quotas.plan_departures(
            limits, at, wanted=room, has_more_than=lambda number: items.has_more_left(self._run, number + unsettled)
        )

    def find_next_departure(self, orders: Orders, at: datetime) -> datetime:
        """Return when the next mail may leave."""
        throttle, limits = orders.throttle, self.limits(orders)
        if throttle is not None and throttle.is_waiting(at):
            return throttle.next_mail_at
        return quotas.find_next_departure(limits, at) if limits.is_limited else at
