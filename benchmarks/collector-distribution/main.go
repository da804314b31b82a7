// Command collector is an OpenTelemetry Collector with what `python -m benchmarks.collector` needs: its core, contrib's
// CloudWatch receiver, the count connector, the cumulation of deltas and the Prometheus exporter, all as they are
// published.
package main

import (
	"log"

	"github.com/open-telemetry/opentelemetry-collector-contrib/connector/countconnector"
	"github.com/open-telemetry/opentelemetry-collector-contrib/exporter/prometheusexporter"
	"github.com/open-telemetry/opentelemetry-collector-contrib/processor/deltatocumulativeprocessor"
	"github.com/open-telemetry/opentelemetry-collector-contrib/receiver/awscloudwatchreceiver"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/connector"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

func main() {
	settings := otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "collector", Description: "a collector to be measured"},
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{
			ResolverSettings: confmap.ResolverSettings{
				ProviderFactories: []confmap.ProviderFactory{fileprovider.NewFactory()},
				DefaultScheme:     "file",
			},
		},
	}
	if err := otelcol.NewCommand(settings).Execute(); err != nil {
		log.Fatal(err)
	}
}

func factories() (otelcol.Factories, error) {
	cloudwatch, count := awscloudwatchreceiver.NewFactory(), countconnector.NewFactory()
	cumulation, prometheus := deltatocumulativeprocessor.NewFactory(), prometheusexporter.NewFactory()
	return otelcol.Factories{
		Receivers:  map[component.Type]receiver.Factory{cloudwatch.Type(): cloudwatch},
		Connectors: map[component.Type]connector.Factory{count.Type(): count},
		Processors: map[component.Type]processor.Factory{cumulation.Type(): cumulation},
		Exporters:  map[component.Type]exporter.Factory{prometheus.Type(): prometheus},
		Telemetry:  otelconftelemetry.NewFactory(),
	}, nil
}
