const http = require("http");

http
  .createServer((request, response) => {
    let length = 0;
    request.on("data", (piece) => (length += piece.length));
    request.on("end", () => response.end(`Hello from Node, ${length} bytes`));
  })
  .listen(process.env.PORT || 8000);
