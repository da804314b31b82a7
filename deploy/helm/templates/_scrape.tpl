{{/* An endpoint of a ServiceMonitor or a PodMonitor. Takes (list $ monitor). */}}
{{- define "apigateway-exporter.scrape" -}}
{{- $root := first . -}}
{{- with last . -}}
port: metrics
path: /metrics
scheme: {{ include "apigateway-exporter.scheme" $root }}
# `stage`, `account` and `region` are the exporter's own labels.
honorLabels: {{ .honorLabels }}
{{- with .interval }}
interval: {{ . }}
{{- end }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- with .tlsConfig }}
tlsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .basicAuth }}
basicAuth:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
{{- end -}}
