"""apigateway-exporter: why Amazon API Gateway requests fail, as metrics and traces."""
