{{/* The environment of every process. Secrets are named, never written. */}}

{{/* One variable out of a Secret: dict variable, place {url, existingSecret}, made (name of our Secret), key. */}}
{{- define "opsq.fromSecret" -}}
{{- $theirs := .place.existingSecret | default dict }}
{{- if or $theirs.name .place.url }}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef:
      name: {{ $theirs.name | default .made }}
      key: {{ ternary $theirs.key .key (not (empty $theirs.name)) }}
{{- end }}
{{- end }}

{{/* Whether history is a PostgreSQL; text, empty for no. */}}
{{- define "opsq.postgres" -}}
{{- $history := .Values.monitor.history }}
{{- if or $history.url $history.existingSecret.name }}yes{{ end }}
{{- end }}

{{/* Settings as OPSQ_ variables; later tables win: dict tables (list of settings). */}}
{{- define "opsq.settings" -}}
{{- $all := dict }}
{{- range .tables }}{{- $all = merge (dict) (deepCopy (. | default dict)) $all }}{{- end }}
{{- range $name, $value := $all }}
{{- if not (kindIs "invalid" $value) }}
- name: OPSQ_{{ upper $name }}
  value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* dict root, settings (of the part), chart (settings that the chart itself gives; the user's win), env, envFrom. */}}
{{- define "opsq.environment" -}}
{{- $root := .root }}
{{- $made := printf "%s-urls" (include "opsq.fullname" $root) -}}
env:
  - name: POD_IP
    valueFrom: {fieldRef: {fieldPath: status.podIP}}
  - name: POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  {{- include "opsq.fromSecret" (dict "variable" "OPSQ_BROKER_URL" "place" $root.Values.broker "made" $made "key" "broker-url") | nindent 2 }}
  {{- include "opsq.fromSecret" (dict "variable" "OPSQ_RESULT_BACKEND" "place" $root.Values.results "made" $made "key" "result-backend") | nindent 2 }}
  {{- with $root.Values.app }}
  - name: OPSQ_APP
    value: {{ . | quote }}
  {{- end }}
  {{- $base := dict "data_dir" "/var/lib/opsq" "log_format" "json" "broker_connection_max_retries" "none" }}
  {{- include "opsq.settings" (dict "tables" (list $base .chart $root.Values.settings .settings)) | nindent 2 }}
  {{- range $name, $place := $root.Values.secretSettings }}
  - name: OPSQ_{{ upper $name }}
    valueFrom: {secretKeyRef: {name: {{ $place.name }}, key: {{ $place.key }}}}
  {{- end }}
  {{- with .more }}{{ . | nindent 2 }}{{- end }}
  {{- with concat ($root.Values.env | default list) (.env | default list) }}{{ toYaml . | nindent 2 }}{{- end }}
{{- with concat ($root.Values.envFrom | default list) (.envFrom | default list) }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
