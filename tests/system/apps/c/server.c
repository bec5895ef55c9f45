/* A plain HTTP server: one process, one connection at a time, as small C programs are. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
    const char *port = getenv("PORT");
    const char *answer = "HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 12\r\n\r\nHello from C";
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(port ? port : "8080"))};
    int yes = 1, server = socket(AF_INET, SOCK_STREAM, 0);
    char request[65536];

    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(server, (struct sockaddr *)&address, sizeof address) || listen(server, 128))
        return 1;
    for (;;) {
        int client = accept(server, NULL, NULL);
        if (read(client, request, sizeof request) > 0 && write(client, answer, strlen(answer)) < 0)
            return 1;
        close(client);
    }
}
