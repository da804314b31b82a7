{{/* What the exporter reads: its configuration file, rules files and web configuration file. */}}

{{- define "apigateway-exporter.ownsConfig" -}}
{{- if not (or .Values.existingConfigMap .Values.existingSecret) -}}true{{- end -}}
{{- end -}}

{{/* The keys of the ConfigMap: file name to content. */}}
{{- define "apigateway-exporter.configFiles" -}}
{{- $config := deepCopy .Values.config -}}
{{- if .Values.ruleFiles -}}
{{- $_ := set $config "rules" (concat (default list $config.rules) (keys .Values.ruleFiles | sortAlpha) | uniq) -}}
{{- end -}}
{{- $files := dict "exporter.yaml" (toYaml $config) -}}
{{- range $name, $content := .Values.ruleFiles -}}
{{- $_ := set $files $name (kindIs "string" $content | ternary $content (toYaml $content)) -}}
{{- end -}}
{{- toYaml $files -}}
{{- end -}}

{{- define "apigateway-exporter.webSecret" -}}
{{- if .Values.webConfig.existingSecret -}}
{{- .Values.webConfig.existingSecret -}}
{{- else if .Values.webConfig.content -}}
{{- printf "%s-web" (include "apigateway-exporter.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "apigateway-exporter.scheme" -}}
{{- default (hasKey .Values.webConfig.content "tls_server_config" | ternary "https" "http") .Values.webConfig.scheme -}}
{{- end -}}

{{/* Whether the kubelet can ask the pages of health, or only connect. */}}
{{- define "apigateway-exporter.probes" -}}
{{- $web := .Values.webConfig.content -}}
{{- $tls := default dict $web.tls_server_config -}}
{{- $asks := or $web.basic_auth_users $web.rate_limit (has (default "" $tls.client_auth_type) (list "RequireAnyClientCert" "RequireAndVerifyClientCert")) -}}
{{- default (empty $asks | ternary "http" "tcp") .Values.webConfig.probes -}}
{{- end -}}

{{/* A probe: what the values say, with a handler unless they have one. Takes (list $ probe path). */}}
{{- define "apigateway-exporter.probe" -}}
{{- $root := index . 0 -}}
{{- $probe := deepCopy (index . 1) -}}
{{- if not (or $probe.httpGet $probe.tcpSocket $probe.exec $probe.grpc) -}}
{{- if eq (include "apigateway-exporter.probes" $root) "tcp" -}}
{{- $_ := set $probe "tcpSocket" (dict "port" "metrics") -}}
{{- else -}}
{{- $_ := set $probe "httpGet" (dict "path" (index . 2) "port" "metrics" "scheme" (include "apigateway-exporter.scheme" $root | upper)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $probe -}}
{{- end -}}
