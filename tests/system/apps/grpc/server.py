"""A gRPC server without generated code: messages are plain bytes."""

import os
from concurrent import futures

import grpc


def shout(request, context):
    return request.upper()


def letters(request, context):
    for letter in request:
        yield bytes([letter])


def chat(requests, context):
    for request in requests:
        yield request[::-1]


HANDLERS = {
    "Shout": grpc.unary_unary_rpc_method_handler(shout),
    "Letters": grpc.unary_stream_rpc_method_handler(letters),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
}

server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("echo.Echo", HANDLERS)])
server.add_insecure_port(f"[::]:{os.environ.get('PORT', '50051')}")
server.start()
server.wait_for_termination()
