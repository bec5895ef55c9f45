"""The control plane's HTTP: parse a request, call one use case, render the answer."""
