"""CloudWatch's percentiles (p50, p95.45), which moto lacks: its answer to such a query is an error.

Of the values that were put, the one below which so many percent of them are, by the nearest rank. CloudWatch interpolates; tests put values for which both
are the same.
"""
import math
import re

from moto.cloudwatch.models import Statistics

_statistic = Statistics.get_statistics_for_type


def statistic(self, stat):
    percentile = re.fullmatch(r"p(\d+(?:\.\d+)?)", stat)
    values = sorted(self.metric_single_values_list)
    if percentile is None or not values:
        return _statistic(self, stat)
    return values[max(0, math.ceil(len(values) * float(percentile.group(1)) / 100) - 1)]


def install():
    Statistics.get_statistics_for_type = statistic
