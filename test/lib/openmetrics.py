# Reads OpenMetrics text with a strict parser; prints each sample as
# "name label=value ...<TAB>value", labels in order, without those that are long.
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families

LEFT_OUT = ("server", "kind")
for family in text_string_to_metric_families(sys.stdin.read()):
    if not family.documentation:
        sys.exit(f"{family.name} has no help")
    for sample in family.samples:
        labels = [f"{k}={v}" for k, v in sorted(sample.labels.items()) if k not in LEFT_OUT]
        print(" ".join([sample.name, *labels]).replace("\n", "\\n"), f"{sample.value:.10g}", sep="\t")
