{{/*
What the chart refuses, and why: what would count twice, lose state, or never start. Everything of it is said at once.
*/}}
{{- define "apigateway-exporter.refusals" -}}
{{- $said := list -}}
{{- $config := .Values.config -}}
{{- $web := default dict $config.web -}}
{{- $state := default dict $config.state -}}
{{- if gt (int .Values.replicaCount) 1 -}}
{{- $said = append $said (printf "replicaCount is %d: the state (SQLite) belongs to one process, a second pod would count every failure again. Use 1, or 0 to pause; split the stages over several releases to share the work." (int .Values.replicaCount)) -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled -}}
{{- $said = append $said "serviceMonitor and podMonitor are both enabled: Prometheus would scrape the exporter twice and every sum would double. Enable one of them." -}}
{{- end -}}
{{- if and .Values.existingConfigMap .Values.existingSecret -}}
{{- $said = append $said "existingConfigMap and existingSecret are both set: the configuration is one file. Set one of them." -}}
{{- end -}}
{{- if include "apigateway-exporter.ownsConfig" . -}}
{{- if not (or $config.watches (kindIs "map" $config.discover)) -}}
{{- $said = append $said "there is nothing to watch: list the stages with their log groups under config.watches (README.md has an example), or name a ConfigMap or Secret of yours in existingConfigMap or existingSecret." -}}
{{- end -}}
{{- else -}}
{{- if $config -}}
{{- $said = append $said "config would have no effect: the configuration comes from existingConfigMap or existingSecret. Move it there." -}}
{{- end -}}
{{- if .Values.ruleFiles -}}
{{- $said = append $said "ruleFiles would have no effect: the configuration comes from existingConfigMap or existingSecret. Add the files there, and name them under `rules` in exporter.yaml." -}}
{{- end -}}
{{- end -}}
{{- if $web.listen_address -}}
{{- $said = append $said "config.web.listen_address: the chart sets the address for the Service and the probes to find it. Set service.port." -}}
{{- end -}}
{{- if $web.config_file -}}
{{- $said = append $said "config.web.config_file: the chart mounts the web configuration. Set webConfig.content or webConfig.existingSecret." -}}
{{- end -}}
{{- if and $state.path (not (hasPrefix "/var/lib/apigateway-exporter/" $state.path)) -}}
{{- $said = append $said (printf "config.state.path is %s: it must be in /var/lib/apigateway-exporter/, where the volume is. Leave it out." $state.path) -}}
{{- end -}}
{{- range .Values.extraArgs -}}
{{- if regexMatch "^--(config\\.file|web\\.(listen-address|config\\.file|telemetry-path)|log\\.(level|format))(=|$)" . -}}
{{- $said = append $said (printf "extraArgs: the chart sets %s itself, by config, service.port, webConfig and log; monitors and probes rely on it." (splitList "=" . | first)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.webConfig.content .Values.webConfig.existingSecret -}}
{{- $said = append $said "webConfig.content would have no effect beside webConfig.existingSecret. Move it into that Secret, as web.yml." -}}
{{- end -}}
{{- if and .Values.webConfig.tlsSecret (not (include "apigateway-exporter.webSecret" .)) -}}
{{- $said = append $said "webConfig.tlsSecret would have no effect without a web configuration that uses it: set webConfig.content.tls_server_config to {cert_file: tls.crt, key_file: tls.key}." -}}
{{- end -}}
{{- if and .Values.persistence.enabled (has "ReadWriteMany" .Values.persistence.accessModes) -}}
{{- $said = append $said "persistence.accessModes has ReadWriteMany: such volumes are network file systems, on which SQLite's locks are not safe. Use ReadWriteOnce on block storage (EBS gp3)." -}}
{{- end -}}
{{- if $said -}}
{{- fail (printf "\n\n  - %s\n" (join "\n  - " $said)) -}}
{{- end -}}
{{- end -}}

{{/* Whether an object of the Prometheus operator is wanted, and possible or not to be left out. Takes (list $ enabled). */}}
{{- define "apigateway-exporter.operatorObject" -}}
{{- $root := first . -}}
{{- if and (last .) (or (not $root.Values.prometheusOperator.skipIfMissing) ($root.Capabilities.APIVersions.Has "monitoring.coreos.com/v1")) -}}true{{- end -}}
{{- end -}}
