// Command standin is an OpenTelemetry Collector with what `python -m benchmarks.collector` needs: its core, the count
// connector, the cumulation of deltas and the Prometheus exporter as they are published, and in the place of contrib's
// CloudWatch receiver the one of receiver.go.
package main

import (
	"log"

	"github.com/open-telemetry/opentelemetry-collector-contrib/connector/countconnector"
	"github.com/open-telemetry/opentelemetry-collector-contrib/exporter/prometheusexporter"
	"github.com/open-telemetry/opentelemetry-collector-contrib/processor/deltatocumulativeprocessor"
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
		BuildInfo: component.BuildInfo{Command: "standin", Description: "a collector to be measured"},
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
	cloudwatch, count := newFactory(), countconnector.NewFactory()
	cumulation, prometheus := deltatocumulativeprocessor.NewFactory(), prometheusexporter.NewFactory()
	return otelcol.Factories{
		Receivers:  map[component.Type]receiver.Factory{cloudwatch.Type(): cloudwatch},
		Connectors: map[component.Type]connector.Factory{count.Type(): count},
		Processors: map[component.Type]processor.Factory{cumulation.Type(): cumulation},
		Exporters:  map[component.Type]exporter.Factory{prometheus.Type(): prometheus},
		Telemetry:  otelconftelemetry.NewFactory(),
	}, nil
}
