from flask import Flask, request

app = Flask(__name__)


@app.route("/")
def hello():
    return "Hello from Flask"


@app.route("/echo", methods=["POST"])
def echo():
    return {"length": len(request.get_data())}


if __name__ == "__main__":
    app.run()
