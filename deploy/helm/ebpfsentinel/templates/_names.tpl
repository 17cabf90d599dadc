{{- define "ebpfsentinel.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "ebpfsentinel.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "ebpfsentinel.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "ebpfsentinel.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "ebpfsentinel.selector" -}}
app.kubernetes.io/name: {{ include "ebpfsentinel.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ebpfsentinel.labels" -}}
{{ include "ebpfsentinel.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "ebpfsentinel.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "ebpfsentinel.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "ebpfsentinel.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* What both the agent and the probes go by. */ -}}
{{- define "ebpfsentinel.httpPort" -}}
{{- int (dig "agent" "http_port" 8080 .Values.config) -}}
{{- end -}}

{{- define "ebpfsentinel.metricsPort" -}}
{{- int (dig "agent" "metrics_port" 9090 .Values.config) -}}
{{- end -}}

{{- define "ebpfsentinel.scheme" -}}
{{- if or (dig "tls" "enabled" false .Values.config) (dig "agent" "tls" "enabled" false .Values.config) -}}
HTTPS
{{- else -}}
HTTP
{{- end -}}
{{- end -}}

{{- /* The kubelet asks from the node: loopback is reached as well. */ -}}
{{- define "ebpfsentinel.probeHost" -}}
{{- $host := dig "agent" "bind_address" "127.0.0.1" .Values.config -}}
{{- if has $host (list "0.0.0.0" "::") -}}127.0.0.1{{- else -}}{{ $host }}{{- end -}}
{{- end -}}
