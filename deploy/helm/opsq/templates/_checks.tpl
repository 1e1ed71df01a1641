{{/* What the schema cannot say: values that do not go together. */}}
{{- define "opsq.checks" -}}
{{- $values := .Values }}
{{- if not $values.image.repository }}{{ fail "image.repository: name your image (built on deploy/docker/Dockerfile)" }}{{ end }}
{{- if not (or $values.broker.url $values.broker.existingSecret.name) }}{{ fail "broker.url: give the broker's URL, or broker.existingSecret.name" }}{{ end }}
{{- if and (gt (int $values.monitor.replicas) 1) (not (include "opsq.postgres" .)) }}{{ fail "monitor.replicas: more than one needs a PostgreSQL history (monitor.history.url or monitor.history.existingSecret)" }}{{ end }}
{{- if and $values.beat.enabled (gt (int $values.beat.replicas) 1) (not (include "opsq.beatShared" .)) }}{{ fail "beat.replicas: more than one needs a store that they share: beat.store, a Redis broker (beat.sharedStore when its URL is in your Secret), or a PostgreSQL history" }}{{ end }}
{{- if and (include "opsq.autoscaleGroups" .) (not $values.monitor.enabled) }}{{ fail "monitor.enabled: autoscaling of workers needs the monitor, which decides" }}{{ end }}
{{- if and $values.ingress.enabled (not $values.ingress.hosts) }}{{ fail "ingress.hosts: name at least one host" }}{{ end }}
{{- if and $values.metrics.serviceMonitor.enabled $values.metrics.podMonitor.enabled }}{{ fail "metrics.podMonitor.enabled: a ServiceMonitor scrapes the same pods; choose one" }}{{ end }}
{{- range $name := keys $values.workers | sortAlpha }}
{{- $group := include "opsq.group" (dict "root" $ "name" $name) | fromJson }}
{{- if gt (int $group.autoscaling.minReplicas) (int $group.autoscaling.maxReplicas) }}{{ fail (printf "workers.%s.autoscaling.minReplicas: more than maxReplicas" $name) }}{{ end }}
{{- if and $group.poolAutoscale.max (gt (int $group.poolAutoscale.min) (int $group.poolAutoscale.max)) }}{{ fail (printf "workers.%s.poolAutoscale.min: more than max" $name) }}{{ end }}
{{- end }}
{{- end }}

{{/* Whether several beats would share a schedule; text, empty for no. */}}
{{- define "opsq.beatShared" -}}
{{- $beat := .Values.beat }}
{{- if or $beat.sharedStore $beat.store.url $beat.store.existingSecret.name (hasPrefix "redis" .Values.broker.url) (include "opsq.postgres" .) }}yes{{ end }}
{{- end }}
