"""OpenTelemetry's SDK: an exponential histogram a field, deltas collected and exported (OTLP protobuf) each minute."""

from collections.abc import Iterator

from exchange_day import Day, answer
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View


def histograms(day: Day) -> Iterator[bytes]:
    """Record value by value; its default of at most 160 buckets."""
    reader = InMemoryMetricReader({Histogram: AggregationTemporality.DELTA})
    view = View(instrument_type=Histogram, aggregation=ExponentialBucketHistogramAggregation())
    meter = MeterProvider([reader], views=[view]).get_meter("device")
    fields = [meter.create_histogram(f"field_{i}") for i in range(day.shape[2])]
    for minute in day:
        for values in minute.tolist():
            for field, value in zip(fields, values, strict=True):
                field.record(value)
        yield encode_metrics(reader.get_metrics_data()).SerializeToString()


answer(histograms, ["opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-common", "protobuf"])
