"""A backend of HTTP callbacks that shares nothing with the server: shows each request as a line of JSON, and answers by rules.

backend.py PORT RULES [CERT KEY]. RULES is a JSON list of objects: "when" names fields and their values; "status", "headers", "body",
"delay" (seconds) and "cut" (bytes of the body that are sent before the connection is closed) are the answer. The first rule that
fits counts; without one the answer is {"code":0}.
"""

import http.server
import json
import ssl
import sys
import threading
import time
import urllib.parse

lock = threading.Lock()
rules = json.loads(sys.argv[2])


class Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def fields(self, body):
        if self.headers.get("Content-Type") == "application/x-www-form-urlencoded":
            return dict(urllib.parse.parse_qsl(body, keep_blank_values=True))
        return json.loads(body) if body else {}

    def serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        fields = self.fields(body)
        shown = {"method": self.command, "path": self.path, "headers": headers, "body": body, "fields": fields}
        with lock:
            print(json.dumps(shown), flush=True)
        fits = lambda rule: all(fields.get(key) == value for key, value in rule.get("when", {}).items())
        rule = next(filter(fits, rules), {})
        time.sleep(rule.get("delay", 0))
        answer = rule.get("body", '{"code":0}').encode()
        self.send_response(rule.get("status", 200))
        for name, value in rule.get("headers", {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer[: rule.get("cut", len(answer))])
        if "cut" in rule:
            self.close_connection = True

    do_POST = do_GET = serve

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Backend)
server.daemon_threads = True
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
