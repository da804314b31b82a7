{{/* Names and labels. A StatefulSet's name is cut at 52: its pods carry it, with a hash, in a label of 63. */}}

{{- define "apigateway-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "apigateway-exporter.fullname" -}}
{{- $name := include "apigateway-exporter.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "apigateway-exporter.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "apigateway-exporter.serviceAccountName" -}}
{{- default (.Values.serviceAccount.create | ternary (include "apigateway-exporter.fullname" .) "default") .Values.serviceAccount.name -}}
{{- end -}}

{{/* What selects the pod; it can never change. */}}
{{- define "apigateway-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "apigateway-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of an object: those of the chart, and further ones. Takes (list $ further labels…). */}}
{{- define "apigateway-exporter.labels" -}}
{{- $root := first . -}}
{{- $own := include "apigateway-exporter.selectorLabels" $root | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/version" ($root.Chart.AppVersion | trunc 63) -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") -}}
{{- range rest . -}}
{{- $own = merge $own . -}}
{{- end -}}
{{- merge $own $root.Values.commonLabels | toYaml -}}
{{- end -}}

{{- define "apigateway-exporter.image" -}}
{{- with .Values.image -}}
{{- with .registry }}{{ . }}/{{ end -}}
{{- .repository -}}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end -}}
{{- end -}}
{{- end -}}
