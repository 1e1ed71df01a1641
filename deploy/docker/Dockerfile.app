# An image of yours: your code on opsq. Build it with your project as the context.
ARG OPSQ=opsq:latest
FROM ${OPSQ}
COPY --chown=10001:10001 . /app
# With requirements of your own:
#   USER root
#   RUN pip install --no-cache-dir --requirement requirements.txt
#   USER 10001:10001
ARG APP=shop
ENV OPSQ_APP=${APP}
