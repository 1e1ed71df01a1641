{{/* What the pods of every part have in common: dict root, part, values. */}}
{{- define "opsq.podMetadata" -}}
labels:
  {{- include "opsq.labels" . | nindent 2 }}
  {{- with .values.podLabels }}{{ toYaml . | nindent 2 }}{{- end }}
annotations:
  opsq/urls: {{ printf "%s %s %s %s" .root.Values.broker.url .root.Values.results.url .root.Values.monitor.history.url .root.Values.beat.store.url | sha256sum | trunc 16 | quote }}
  {{- with .values.podAnnotations }}{{ toYaml . | nindent 2 }}{{- end }}
{{- end }}

{{/* dict root, values, token (whether the pod may speak to the Kubernetes API). */}}
{{- define "opsq.podSpec" -}}
serviceAccountName: {{ include "opsq.serviceAccount" .root }}
automountServiceAccountToken: {{ .token | default false }}
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Replicas go to nodes and zones of their own, where that can be: dict root, part, values. */}}
{{- define "opsq.spread" -}}
{{- $part := . }}
{{- if .values.topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml .values.topologySpreadConstraints | nindent 2 }}
{{- else if .values.topologySpread }}
topologySpreadConstraints:
  {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "opsq.selector" $part | nindent 8 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* How many replicas an eviction may take at once: dict root, part, values, name. */}}
{{- define "opsq.budget" -}}
{{- if .values.podDisruptionBudget.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{- include "opsq.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ .values.podDisruptionBudget.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "opsq.selector" . | nindent 6 }}
{{- end }}
{{- end }}

{{- define "opsq.container" -}}
image: {{ include "opsq.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext: {{- toYaml .root.Values.securityContext | nindent 2 }}
{{- with .values.resources }}
resources: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A group with the defaults under it, as JSON: dict root, name. */}}
{{- define "opsq.group" -}}
{{- mustMergeOverwrite (deepCopy .root.Values.workerDefaults) (index .root.Values.workers .name | default dict | deepCopy) | toJson }}
{{- end }}

{{/* Slots of one replica of a group: dict group. */}}
{{- define "opsq.slots" -}}
{{- .group.poolAutoscale.max | default .group.concurrency | int }}
{{- end }}

{{/* Seconds a pod of a group gets to end: dict root, group. */}}
{{- define "opsq.grace" -}}
{{- $limit := .group.settings.task_time_limit | default .root.Values.settings.task_time_limit }}
{{- if or (not $limit) (eq (toString $limit) "none") }}{{ $limit = 300 }}{{ end }}
{{- .group.terminationGracePeriodSeconds | default (add (ceil $limit) 30) | int }}
{{- end }}

{{/* The setting autoscale_groups of the monitor, as a JSON object; empty when no group is scaled. */}}
{{- define "opsq.autoscaleGroups" -}}
{{- $root := . }}
{{- $all := dict }}
{{- range $name := keys .Values.workers | sortAlpha }}
{{- $group := include "opsq.group" (dict "root" $root "name" $name) | fromJson }}
{{- if and $group.enabled (ne $group.autoscaling.type "none") }}
{{- $slots := include "opsq.slots" (dict "group" $group) | int }}
{{- $queues := $group.queues | default (list ($root.Values.settings.task_default_queue | default "celery")) }}
{{- $told := dict "queues" $queues "min" (mul $group.autoscaling.minReplicas $slots) "max" (mul $group.autoscaling.maxReplicas $slots) "slots_per_replica" $slots "startup" $group.autoscaling.startupSeconds "target" "none" }}
{{- if eq $group.autoscaling.type "opsq" }}
{{- $_ := set $told "target" "kubernetes" }}
{{- $_ := set $told "scales" (printf "deployment/%s-worker-%s" (include "opsq.fullname" $root) $name) }}
{{- end }}
{{- $_ := set $all $name $told }}
{{- end }}
{{- end }}
{{- with $all }}{{ toJson . }}{{ end }}
{{- end }}

{{/* Whether the monitor scales Deployments itself; text, empty for no. */}}
{{- define "opsq.scalesItself" -}}
{{- contains "\"target\":\"kubernetes\"" (include "opsq.autoscaleGroups" .) | ternary "yes" "" }}
{{- end }}
