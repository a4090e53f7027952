# An MCP server for the tests: `modern` or `legacy`, and a file whose text is the description of its tool `echo`, or `-`.
import json, sys

kind, described = sys.argv[1], sys.argv[2]
description = open(described).read() if described != "-" else "says it again"
TOOLS = [{"name": name, "description": description, "inputSchema": {"type": "object"}}
         for name in ["echo", "read", "never", "die", "deep", "long"]]
greeted = False


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


say("this line is no JSON-RPC")
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        sys.stderr.write("told " + message["method"] + "\n")
        sys.stderr.flush()
        continue
    method, params = message["method"], message["params"]
    result, error = None, None
    modern = params.get("_meta", {}).get("io.modelcontextprotocol/protocolVersion") == "2026-07-28"
    if kind == "modern" and not modern or kind == "legacy" and not (greeted or method == "initialize"):
        error = {"code": -32600, "message": "not in this version"}
    elif method == "server/discover" and kind == "modern":
        result = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
    elif method == "initialize" and kind == "legacy":
        greeted = True
        result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "f", "version": "1"}}
    elif method == "tools/list":
        result = {"tools": TOOLS}
    elif method == "tools/call":
        name, given = params["name"], params["arguments"]
        if name == "never":
            continue
        if name == "die":
            sys.exit(1)
        if name == "deep":
            say("[" * 100000)
            continue
        text = given.get("text", "")
        if name == "long":
            text = "x" * (9 << 20)
        if name == "read":
            try:
                text = open(given["path"]).read()
            except OSError as failed:
                text = "refused: " + failed.strerror
        result = {"content": [{"type": "text", "text": text}]}
    else:
        error = {"code": -32601, "message": "no such method"}
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    if error:
        answer["error"] = error
    else:
        answer["result"] = dict(result, resultType="complete") if kind == "modern" else result
    say(json.dumps(answer))
