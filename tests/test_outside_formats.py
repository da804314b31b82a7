"""Formats as people really write them: tools' defaults, samples of blogs, logfmt, CSV, XML, nested and broken JSON.

Each is rendered as the gateway would write it, escaped as JSON and not, with values that hold quotes, braces, separators
and line breaks; a stage's own format must read back every value, and `auto` what it tells at all.
"""

import json

import pytest

from exporter.access_format import Variable, pieces_of
from exporter.access_log import AccessFormatError, access_parser
from exporter.model import UNKNOWN, AccessGlance, AccessRecord, LogEvent

AT_MS = 1_795_341_600_123
FORMATS = {
    "cdk_standard": (
        '{"requestId": "$context.requestId", "ip": "$context.identity.sourceIp", "user": "$context.'
        'identity.user", "caller": "$context.identity.caller", "requestTime": "$context.requestTime'
        '", "httpMethod": "$context.httpMethod", "resourcePath": "$context.resourcePath", "status":'
        ' "$context.status", "protocol": "$context.protocol", "responseLength": "$context.responseL'
        'ength"}'
    ),
    "sls_rest": (
        "requestId: $context.requestId, ip: $context.identity.sourceIp, caller: $context.identity.c"
        "aller, user: $context.identity.user, requestTime: $context.requestTime, httpMethod: $conte"
        "xt.httpMethod, resourcePath: $context.resourcePath, status: $context.status, protocol: $co"
        "ntext.protocol, responseLength: $context.responseLength"
    ),
    "sls_http": (
        '{"requestTime":"$context.requestTime","requestId":"$context.requestId","apiId":"$context.a'
        'piId","resourcePath":"$context.routeKey","httpMethod":"$context.httpMethod","path":"$conte'
        'xt.path","protocol":"$context.protocol","status":$context.status,"responseLength":"$contex'
        't.responseLength","integrationRequestId":"$context.integration.requestId","functionRespons'
        'eStatus":"$context.integration.status","integrationLatency":"$context.integrationLatency",'
        '"integrationServiceStatus":"$context.integration.integrationStatus","responseLatency":"$co'
        'ntext.responseLatency","ip":"$context.identity.sourceIp","userAgent":"$context.identity.us'
        'erAgent","principalId":"$context.authorizer.principalId"}'
    ),
    "sls_ws": (
        "$context.identity.sourceIp $context.identity.caller $context.identity.user [$context.reque"
        'stTime] "$context.eventType $context.routeKey $context.connectionId" $context.requestId'
    ),
    "tf_module_v2": (
        '{"requestId":"$context.requestId","sourceIp":"$context.identity.sourceIp","requestTime":"$'
        'context.requestTime","protocol":"$context.protocol","httpMethod":"$context.httpMethod","re'
        'sourcePath":"$context.resourcePath","routeKey":"$context.routeKey","status":"$context.stat'
        'us","responseLength":"$context.responseLength","integrationErrorMessage":"$context.integra'
        'tionErrorMessage"}'
    ),
    "tf_module_ctx": (
        '{"context":{"domainName":"$context.domainName","integrationErrorMessage":"$context.integra'
        'tionErrorMessage","protocol":"$context.protocol","requestId":"$context.requestId","request'
        'Time":"$context.requestTime","responseLength":"$context.responseLength","routeKey":"$conte'
        'xt.routeKey","stage":"$context.stage","status":"$context.status","error":{"message":"$cont'
        'ext.error.message","responseType":"$context.error.responseType"},"identity":{"sourceIP":"$'
        'context.identity.sourceIp"},"integration":{"error":"$context.integration.error","integrati'
        'onStatus":"$context.integration.integrationStatus"}}}'
    ),
    "numbers_unquoted": (
        '{"status":$context.status,"responseLatency":$context.responseLatency,"responseLength":$con'
        'text.responseLength,"requestId":"$context.requestId","extendedRequestId":"$context.extende'
        'dRequestId","httpMethod":"$context.httpMethod","resourcePath":"$context.resourcePath"}'
    ),
    "messageString_bare": (
        '{"requestId":"$context.requestId","status":"$context.status","error":{"message":$context.e'
        'rror.messageString,"type":"$context.error.responseType"},"httpMethod":"$context.httpMethod'
        '","resourcePath":"$context.resourcePath"}'
    ),
    "messageString_quoted": (
        '{"requestId":"$context.requestId","error":"$context.error.messageString","status":"$contex'
        't.status","httpMethod":"$context.httpMethod","resourcePath":"$context.resourcePath"}'
    ),
    "message_quoted": (
        '{"requestId":"$context.requestId","errorMessage":"$context.error.message","status":"$conte'
        'xt.status","httpMethod":"$context.httpMethod","resourcePath":"$context.resourcePath"}'
    ),
    "phases": (
        '{"requestId":"$context.requestId","extendedRequestId":"$context.extendedRequestId","apiId"'
        ':"$context.apiId","stage":"$context.stage","httpMethod":"$context.httpMethod","resourcePat'
        'h":"$context.resourcePath","status":"$context.status","waf":{"error":"$context.waf.error",'
        '"latency":"$context.waf.latency","status":"$context.waf.status","responseCode":"$context.w'
        'afResponseCode","arn":"$context.webaclArn"},"authenticate":{"error":"$context.authenticate'
        '.error","latency":"$context.authenticate.latency","status":"$context.authenticate.status"}'
        ',"authorizer":{"error":"$context.authorizer.error","latency":"$context.authorizer.latency"'
        ',"status":"$context.authorizer.status","requestId":"$context.authorizer.requestId"},"autho'
        'rize":{"error":"$context.authorize.error","latency":"$context.authorize.latency","status":'
        '"$context.authorize.status"},"integration":{"error":"$context.integration.error","latency"'
        ':"$context.integration.latency","status":"$context.integration.status","requestId":"$conte'
        'xt.integration.requestId"}}'
    ),
    "claims": (
        '{"requestId":"$context.requestId","status":"$context.status","sub":"$context.authorizer.cl'
        'aims.sub","email":"$context.authorizer.claims.email","groups":"$context.authorizer.claims.'
        'cognito:groups","tenant":"$context.authorizer.tenant_id","custom":"$context.authorizer.cla'
        'ims.custom:tenant-id","httpMethod":"$context.httpMethod","resourcePath":"$context.resource'
        'Path"}'
    ),
    "claims_pipe": (
        "$context.requestId|$context.authorizer.claims.sub|$context.authorizer.property|$context.st"
        "atus|$context.httpMethod|$context.resourcePath"
    ),
    "client_cert": (
        '{"requestId":"$context.requestId","status":"$context.status","pem":"$context.identity.clie'
        'ntCert.clientCertPem","subject":"$context.identity.clientCert.subjectDN","issuer":"$contex'
        't.identity.clientCert.issuerDN","serial":"$context.identity.clientCert.serialNumber","notB'
        'efore":"$context.identity.clientCert.validity.notBefore","notAfter":"$context.identity.cli'
        'entCert.validity.notAfter","httpMethod":"$context.httpMethod","resourcePath":"$context.res'
        'ourcePath"}'
    ),
    "client_cert_text": (
        '$context.requestId $context.status "$context.identity.clientCert.subjectDN" "$context.iden'
        'tity.clientCert.issuerDN" [$context.identity.clientCert.validity.notAfter]'
    ),
    "logfmt": (
        "time=$context.requestTimeEpoch request_id=$context.requestId method=$context.httpMethod pa"
        "th=$context.path resource=$context.resourcePath status=$context.status latency=$context.re"
        'sponseLatency integration_latency=$context.integrationLatency error="$context.error.messag'
        'e"'
    ),
    "logfmt_noquote": (
        "request_id=$context.requestId extended=$context.extendedRequestId status=$context.status m"
        "ethod=$context.httpMethod resource=$context.resourcePath ua=$context.identity.userAgent"
    ),
    "kv_comma": (
        "status=$context.status,requestId=$context.requestId,method=$context.httpMethod,resource=$c"
        "ontext.resourcePath,error=$context.error.message,ip=$context.identity.sourceIp"
    ),
    "tabs": (
        "$context.requestTime\t$context.requestId\t$context.identity.sourceIp\t$context.httpMethod\t$co"
        "ntext.resourcePath\t$context.status\t$context.responseLatency\t$context.identity.userAgent"
    ),
    "quoted_csv": (
        '"$context.requestId","$context.extendedRequestId","$context.httpMethod","$context.resource'
        'Path","$context.status","$context.error.message","$context.identity.userAgent","$context.r'
        'esponseLatency"'
    ),
    "csv_semicolon": (
        "$context.requestId;$context.httpMethod;$context.resourcePath;$context.status;$context.resp"
        "onseLatency;$context.error.message;$context.identity.userAgent"
    ),
    "xml_elements": (
        "<log><rid>$context.requestId</rid><m>$context.httpMethod</m><r>$context.resourcePath</r><s"
        ">$context.status</s><e>$context.error.message</e><l>$context.responseLatency</l></log>"
    ),
    "xml_attrs": (
        '<request id="$context.requestId" method="$context.httpMethod" resource="$context.resourceP'
        'ath" status="$context.status" error="$context.error.message" latency="$context.responseLat'
        'ency"/>'
    ),
    "json_array": (
        '["$context.requestId","$context.status","$context.httpMethod","$context.resourcePath",$con'
        "text.responseLatency]"
    ),
    "json_inner_array": (
        '{"ids":["$context.requestId","$context.extendedRequestId"],"status":$context.status,"route'
        '":["$context.httpMethod","$context.resourcePath"]}'
    ),
    "json_nested": (
        '{"http":{"request":{"id":"$context.requestId","method":"$context.httpMethod"},"response":{'
        '"status_code":"$context.status","bytes":"$context.responseLength"},"route":"$context.resou'
        'rcePath"},"aws":{"apigateway":{"stage":"$context.stage","api_id":"$context.apiId"}}}'
    ),
    "json_composite": (
        '{"req":"$context.httpMethod $context.resourcePath $context.protocol","requestId":"$context'
        '.requestId","status":"$context.status","ip":"$context.identity.sourceIp"}'
    ),
    "json_prefix": (
        '{"log_type":"access","id":"api-$context.requestId","status":"$context.status","httpMethod"'
        ':"$context.httpMethod","resourcePath":"$context.resourcePath"}'
    ),
    "ws": (
        '{"requestId":"$context.requestId","ip":"$context.identity.sourceIp","requestTime":"$contex'
        't.requestTime","eventType":"$context.eventType","routeKey":"$context.routeKey","status":"$'
        'context.status","connectionId":"$context.connectionId","messageId":"$context.messageId","c'
        'onnectedAt":"$context.connectedAt","error":"$context.error.message","integrationError":"$c'
        'ontext.integration.error"}'
    ),
    "ws_text": (
        "$context.connectionId $context.eventType $context.routeKey $context.requestId $context.sta"
        "tus [$context.requestTime]"
    ),
    "http_clf": (
        '$context.identity.sourceIp - - [$context.requestTime] "$context.httpMethod $context.routeK'
        'ey $context.protocol" $context.status $context.responseLength $context.requestId $context.'
        "integrationErrorMessage"
    ),
    "overrides": (
        '{"requestId":"$context.requestId","status":"$context.status","o":"$context.responseOverrid'
        'e.status","h":"$context.responseOverride.header.X-Custom-Id","rq":"$context.requestOverrid'
        'e.header.X-Amzn-Foo","qs":"$context.requestOverride.querystring.page","pa":"$context.reque'
        'stOverride.path.id","httpMethod":"$context.httpMethod","resourcePath":"$context.resourcePa'
        'th"}'
    ),
    "custom_domain": (
        "$context.domainName $context.customDomain.basePathMatched $context.requestId $context.stat"
        "us $context.httpMethod $context.resourcePath"
    ),
    "epoch": (
        "$context.requestTimeEpoch $context.requestId $context.extendedRequestId $context.status $c"
        "ontext.httpMethod $context.resourcePath $context.responseLatency"
    ),
    "dollars": (
        '{"price":"$5","cost":"US$","requestId":"$context.requestId","status":"$context.status","ht'
        'tpMethod":"$context.httpMethod","resourcePath":"$context.resourcePath"}'
    ),
    "dollar_text": "$$ cost $1 $context.requestId $context.status $ $context.httpMethod $context.resourcePath",
    "unicode": "Anfrage «$context.requestId» → $context.status ✓ $context.httpMethod „$context.resourcePath“",
    "crlf": (
        '{"requestId":"$context.requestId","status":"$context.status","httpMethod":"$context.httpMe'
        'thod","resourcePath":"$context.resourcePath"}\r\n'
    ),
    "escaped_quotes": (
        '{"requestId":"$context.requestId","status":"$context.status","line":"\\"$context.httpMethod'
        ' $context.resourcePath\\""}'
    ),
    "adjacent": "$context.httpMethod$context.resourcePath $context.status $context.requestId",
    "adjacent2": "$context.status$context.requestId$context.httpMethod$context.resourcePath",
    "braces": "${context.requestId} ${context.status} ${context.httpMethod} ${context.resourcePath}",
    "brackets": (
        "[$context.requestTime] [$context.requestId] [$context.status] [$context.httpMethod $contex"
        "t.resourcePath] [$context.error.message] [$context.error.responseType]"
    ),
    "parens": (
        "($context.requestId) ($context.status) ($context.httpMethod) ($context.resourcePath) ($context.error.message)"
    ),
    "colon": (
        "requestId: $context.requestId status: $context.status method: $context.httpMethod path: $c"
        "ontext.resourcePath error: $context.error.message"
    ),
    "xray": (
        '{"requestId":"$context.requestId","xrayTraceId":"$context.xrayTraceId","status":"$context.'
        'status","httpMethod":"$context.httpMethod","resourcePath":"$context.resourcePath","respons'
        'eType":"$context.error.responseType"}'
    ),
    "datadog": (
        '{"requestId":"$context.requestId","extendedRequestId":"$context.extendedRequestId","ip":"$'
        'context.identity.sourceIp","caller":"$context.identity.caller","user":"$context.identity.u'
        'ser","requestTimeEpoch":"$context.requestTimeEpoch","httpMethod":"$context.httpMethod","re'
        'sourcePath":"$context.resourcePath","status":"$context.status","protocol":"$context.protoc'
        'ol","responseLength":"$context.responseLength","apiId":"$context.apiId","stage":"$context.'
        'stage","responseLatency":"$context.responseLatency","integrationLatency":"$context.integra'
        'tionLatency","service":"apigateway","env":"prod"}'
    ),
    "aws_blog_403": (
        '{"requestId":"$context.requestId","waf-error":"$context.waf.error","waf-status":"$context.'
        'waf.status","waf-latency":"$context.waf.latency","waf-response":"$context.wafResponseCode"'
        ',"authenticate-error":"$context.authenticate.error","authenticate-status":"$context.authen'
        'ticate.status","authorize-error":"$context.authorize.error","authorize-status":"$context.a'
        'uthorize.status","integration-error":"$context.integration.error","integration-status":"$c'
        'ontext.integration.status","status":"$context.status","httpMethod":"$context.httpMethod","'
        'resourcePath":"$context.resourcePath","error":"$context.error.message"}'
    ),
    "userAgent_last_clf": (
        '$context.identity.sourceIp - $context.identity.user [$context.requestTime] "$context.httpM'
        'ethod $context.path $context.protocol" $context.status $context.responseLength "-" "$conte'
        'xt.identity.userAgent" $context.requestId'
    ),
    "tlsver": (
        "$context.requestId $context.tlsVersion $context.cipherSuite $context.status $context.httpM"
        "ethod $context.resourcePath $context.isCanaryRequest $context.deploymentId"
    ),
    "stage_vars": (
        '{"requestId":"$context.requestId","status":"$context.status","lambda":"$stageVariables.fn"'
        ',"stage":"$context.stage","httpMethod":"$context.httpMethod","resourcePath":"$context.reso'
        'urcePath"}'
    ),
    "json_message_first": (
        '{"message":"$context.error.message","requestId":"$context.requestId","status":"$context.st'
        'atus","validation":"$context.error.validationErrorString","httpMethod":"$context.httpMetho'
        'd","resourcePath":"$context.resourcePath"}'
    ),
    "single_line_words": (
        "API $context.apiId/$context.stage answered $context.httpMethod $context.resourcePath with "
        "$context.status in $context.responseLatency ms (request $context.requestId)"
    ),
    "status_glued": "status$context.status id:$context.requestId m=$context.httpMethod r=$context.resourcePath",
    "msgstr_text": (
        "$context.requestId $context.status $context.error.messageString $context.httpMethod $context.resourcePath"
    ),
    "msgstr_last": "$context.requestId $context.status $context.error.messageString",
    "free_two_commas": "$context.requestId,$context.error.message,$context.integration.error,$context.status",
    "free_dash": "$context.requestId - $context.error.message - $context.status",
    "path_then": "$context.path?x $context.requestId $context.status $context.httpMethod $context.resourcePath",
    "json_dup_keys": (
        '{"id":"$context.requestId","id":"$context.extendedRequestId","status":"$context.status","h'
        'ttpMethod":"$context.httpMethod","resourcePath":"$context.resourcePath"}'
    ),
    "json_all_unquoted": (
        '{"requestId":"$context.requestId","status":$context.status,"intStatus":$context.integratio'
        'n.status,"latency":$context.responseLatency,"intLatency":$context.integration.latency,"len'
        'gth":$context.responseLength,"epoch":$context.requestTimeEpoch,"httpMethod":"$context.http'
        'Method","resourcePath":"$context.resourcePath"}'
    ),
    "json_bad_trailing_comma": (
        '{"requestId":"$context.requestId","status":"$context.status","httpMethod":"$context.httpMe'
        'thod","resourcePath":"$context.resourcePath",}'
    ),
    "json_missing_brace": (
        '{"requestId":"$context.requestId","status":"$context.status","httpMethod":"$context.httpMe'
        'thod","resourcePath":"$context.resourcePath"'
    ),
    "json_single_quotes": (
        "{'requestId':'$context.requestId','status':'$context.status','httpMethod':'$context.httpMe"
        "thod','resourcePath':'$context.resourcePath'}"
    ),
    "json_unquoted_id": (
        '{"requestId":$context.requestId,"status":$context.status,"httpMethod":"$context.httpMethod'
        '","resourcePath":"$context.resourcePath"}'
    ),
    "prefixed_json": (
        'ACCESS {"requestId":"$context.requestId","status":"$context.status","httpMethod":"$context'
        '.httpMethod","resourcePath":"$context.resourcePath","error":"$context.error.message"}'
    ),
    "json_in_string": (
        '{"level":"info","msg":"{\\"rid\\":\\"$context.requestId\\",\\"s\\":$context.status}","httpMethod'
        '":"$context.httpMethod","resourcePath":"$context.resourcePath"}'
    ),
    "ltsv": (
        "time:$context.requestTime\thost:$context.identity.sourceIp\treq:$context.requestId\tmethod:$c"
        "ontext.httpMethod\turi:$context.resourcePath\tstatus:$context.status\tua:$context.identity.us"
        "erAgent\terr:$context.error.message"
    ),
    "double_pipe": (
        "$context.requestId||$context.status||$context.httpMethod||$context.resourcePath||$context."
        "error.message||$context.identity.userAgent"
    ),
    "tilde_arrow": (
        "$context.requestId ~> $context.httpMethod $context.resourcePath => $context.status <$context.error.message>"
    ),
    "slash": "$context.apiId/$context.stage/$context.httpMethod/$context.requestId/$context.status",
    "dash_join": (
        "$context.apiId-$context.stage-$context.status $context.requestId $context.httpMethod $context.resourcePath"
    ),
    "cef": (
        "CEF:0|AWS|APIGateway|1.0|$context.status|$context.httpMethod $context.resourcePath|5|reque"
        "stId=$context.requestId src=$context.identity.sourceIp msg=$context.error.message"
    ),
    "yaml": (
        "{requestId: $context.requestId, status: $context.status, method: $context.httpMethod, reso"
        "urce: $context.resourcePath, error: $context.error.message}"
    ),
    "clf_swapped": (
        '$context.identity.sourceIp $context.requestId [$context.requestTime] "$context.httpMethod '
        '$context.resourcePath" $context.status $context.responseLatency "$context.identity.userAge'
        'nt"'
    ),
    "elb": (
        "$context.requestTimeEpoch $context.identity.sourceIp $context.responseLatency $context.int"
        'egrationLatency $context.status $context.integrationStatus $context.responseLength "$conte'
        'xt.httpMethod https://$context.domainName$context.path $context.protocol" "$context.identi'
        'ty.userAgent" $context.requestId $context.resourcePath'
    ),
    "domain_path": (
        "$context.requestId $context.status $context.domainName$context.path $context.httpMethod $context.resourcePath"
    ),
    "stage_path": "$context.requestId $context.status $context.httpMethod $context.stage$context.resourcePath",
    "only_ids": "$context.requestId $context.extendedRequestId",
    "json_array_objs": (
        '[{"requestId":"$context.requestId","status":"$context.status"},{"httpMethod":"$context.htt'
        'pMethod","resourcePath":"$context.resourcePath"}]'
    ),
    "opaque_keys": (
        '{"a":"$context.requestId","b":"$context.status","c":"$context.httpMethod","d":"$context.re'
        'sourcePath","e":"$context.error.message","f":"$context.responseLatency"}'
    ),
    "misleading_keys": (
        '{"status":"$context.integration.status","requestId":"$context.integration.requestId","code'
        '":"$context.status","id":"$context.requestId","httpMethod":"$context.httpMethod","resource'
        'Path":"$context.resourcePath"}'
    ),
    "mixed_xml_nested": (
        '<access><request id="$context.requestId"><method>$context.httpMethod</method><resource>$co'
        'ntext.resourcePath</resource></request><response status="$context.status" latency="$contex'
        't.responseLatency"><error><![CDATA[$context.error.message]]></error></response></access>'
    ),
    "waf_text": (
        "$context.requestId $context.status waf=$context.waf.status/$context.waf.latency/$context.w"
        "afResponseCode [$context.waf.error] auth=$context.authenticate.status [$context.authentica"
        "te.error] $context.httpMethod $context.resourcePath"
    ),
    "comma_space": (
        "$context.requestId, $context.status, $context.httpMethod, $context.resourcePath, $context."
        "error.message, $context.identity.sourceIp"
    ),
    "unknown_var": "$context.requestId $context.status $context.fooBar $context.httpMethod $context.resourcePath",
    "unknown_json": (
        '{"requestId":"$context.requestId","status":"$context.status","foo":"$context.foo.bar","htt'
        'pMethod":"$context.httpMethod","resourcePath":"$context.resourcePath"}'
    ),
}

OK = {
    "requestId": "57933067-23a3-496c-a81d-394165ce8694",
    "extendedRequestId": "XKQUaB-dD-bZ3s0=",
    "apiId": "a7fj2k9x3d",
    "stage": "prod",
    "httpMethod": "GET",
    "resourcePath": "/orders/{id}",
    "path": "/prod/orders/17",
    "routeKey": "GET /orders/{id}",
    "status": "200",
    "responseLatency": "31",
    "integrationLatency": "29",
    "integration.latency": "29",
    "integration.status": "200",
    "integration.integrationStatus": "200",
    "integrationStatus": "200",
    "integration.requestId": "07933067-23a3-496c-a81d-394165ce8690",
    "identity.sourceIp": "203.0.113.7",
    "identity.userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)",
    "requestTime": "22/Nov/2026:09:20:00 +0000",
    "requestTimeEpoch": str(AT_MS),
    "protocol": "HTTP/1.1",
    "responseLength": "512",
    "domainName": "a7fj2k9x3d.execute-api.eu-west-1.amazonaws.com",
    "accountId": "123456789012",
    "xrayTraceId": "1-5759e988-bd862e3fe1be46a994272793",
    "deploymentId": "d8k2x1",
    "isCanaryRequest": "false",
    "tlsVersion": "TLSv1.3",
    "cipherSuite": "TLS_AES_128_GCM_SHA256",
    "customDomain.basePathMatched": "(none)",
    "wafResponseCode": "WAF_ALLOW",
    "waf.status": "200",
    "waf.latency": "3",
    "authorizer.principalId": "user|1",
    "authorizer.claims.sub": "6f0c1a2b-0000-4000-8000-000000000000",
    "authorizer.claims.cognito:groups": "[admin, ops]",
    "authorizer.claims.custom:tenant-id": "x-9",
    "authorizer.tenant_id": "t-1",
    "authorizer.property": "some value",
    "requestOverride.header.X-Amzn-Foo": "v",
    "requestOverride.querystring.page": "3",
    "requestOverride.path.id": "17",
    "responseOverride.header.X-Custom-Id": "c-1",
    "stageVariables.fn": "orders-fn",
    "eventType": "MESSAGE",
    "connectionId": "L0SM9cOFvHcCIhw=",
}
_NO_BACKEND = (
    "integrationLatency",
    "integration.latency",
    "integration.status",
    "integration.requestId",
    "xrayTraceId",
)


def failing(status, message, *, without=(), **more):
    values = OK | {"status": status, "error.message": message, "error.messageString": f'"{message}"'}
    values |= {name.replace("__", "."): text for name, text in more.items()}
    return {name: text for name, text in values.items() if name not in without}


_TIMED_OUT = "Execution failed due to a timeout error"
_LAMBDA = 'Lambda said: "{\n  \\"x\\": 1\n}", bye|really'
REQUESTS = {
    "ok": OK,
    "timeout": failing(
        "504",
        "Endpoint request timed out",
        without=["integration.status"],
        responseLatency="29012",
        error__responseType="INTEGRATION_TIMEOUT",
        integration__error=_TIMED_OUT,
        integrationErrorMessage=_TIMED_OUT,
    ),
    "denied": failing(
        "403",
        "User: arn:aws:sts::1:assumed-role/a b is not authorized, at all",
        without=[*_NO_BACKEND, "authorizer.claims.sub", "authorizer.property"],
        error__responseType="ACCESS_DENIED",
        authorize__status="403",
        authorize__error="The client is not authorized to perform this operation.",
    ),
    "invalid": failing(
        "400",
        "Invalid request body",
        error__responseType="BAD_REQUEST_BODY",
        error__validationErrorString='[object has missing required properties (["a","b"]), instance type (null)]',
    ),
    "quotes, braces, separators, line breaks": failing(
        "502",
        'Internal "server" error, {"a": [1, 2]} \\ end',
        integration__error=_LAMBDA,
        integrationErrorMessage=_LAMBDA,
        identity__userAgent='we"ird {agent}, "v": 1 <b>|x; y=z ☃',
        identity__clientCert__subjectDN='CN="a, b",O=Ü',
    ),
    "greedy resource": failing(
        "404", "Not Found", resourcePath="/{proxy+}", routeKey="GET /{proxy+}", stage="$default"
    ),
}
ESSENTIAL = {
    "request_id": "requestId",
    "extended_request_id": "extendedRequestId",
    "status": "status",
    "method": "httpMethod",
    "resource": "resourcePath",
    "api_id": "apiId",
    "stage": "stage",
    "latency_ms": "responseLatency",
    "response_type": "error.responseType",
}


def escaped(text):
    return json.dumps(text, ensure_ascii=False)[1:-1]


def line_of(form, values, *, escape):
    out = []
    for piece in pieces_of(form):
        if isinstance(piece, str):
            out.append(piece)
            continue
        text = values.get(piece.name, "-")
        if piece.name == "error.messageString" and text != "-":
            out.append(f'"{escaped(text[1:-1]) if escape else text[1:-1]}"')  # it brings quotes of its own
        else:
            out.append(escaped(text) if escape else text)
    return "".join(out)


def names_in(form):
    return {piece.name for piece in pieces_of(form) if isinstance(piece, Variable)}


def essentials(glance):
    """What a glance tells, as text."""
    told = {name: getattr(glance, field) for field, name in ESSENTIAL.items()}
    return {name: str(value) for name, value in told.items() if value not in {None, UNKNOWN}}


@pytest.mark.parametrize("escape", [True, False], ids=["escaped", "pasted in"])
@pytest.mark.parametrize("values", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_a_stages_own_format_reads_every_value_back(form, values, escape):
    line = line_of(form, values, escape=escape)
    parser = access_parser(form)
    names = names_in(form)
    glance = parser.glance(line)
    assert isinstance(glance, AccessGlance)
    told, truth = essentials(glance), {name: values[name] for name in names & values.keys()}
    # An HTTP or WebSocket API's route tells method and resource, too.
    derived = {"httpMethod", "resourcePath"} - names if "routeKey" in names else set()
    assert {name: text for name, text in told.items() if name not in derived} == {
        name: text for name, text in truth.items() if name in ESSENTIAL.values()
    }
    record = parser.parse(LogEvent(event_id="1", at_ms=AT_MS, message=line))
    assert isinstance(record, AccessRecord)
    for name in names:
        logged, meant = record.fields.get(name), values.get(name)
        if name == "error.messageString" and logged is not None and meant is not None:
            logged, meant = logged.strip('"'), meant[1:-1]
        assert logged == meant or (meant is not None and logged == escaped(meant)), name


# Keys that say something else than the value behind them: without the format nobody can know.
MISLEADING = {"misleading_keys", "json_dup_keys", "json_prefix"}


@pytest.mark.parametrize("form", [form for name, form in FORMATS.items() if name not in MISLEADING])
@pytest.mark.parametrize("values", REQUESTS.values(), ids=REQUESTS)
def test_auto_tells_the_truth_or_nothing(form, values):
    glance = access_parser("auto").glance(line_of(form, values, escape=True))
    if isinstance(glance, AccessGlance):
        told = essentials(glance)
        assert told.items() <= values.items()


def test_two_texts_with_a_space_between_them_are_refused_by_name():
    with pytest.raises(
        AccessFormatError, match=r"error\.message and \$context\.integration\.error cannot be told apart"
    ):
        access_parser("$context.requestId $context.error.message $context.integration.error")
