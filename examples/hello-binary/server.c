/* HTTP/1.1 on 127.0.0.1:$PORT in one thread: keep-alive, pipelining, bodies read and dropped, ends on SIGTERM. */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_CLIENTS = 1024, LONGEST_HEAD = 16384 };

/* What a client sent that is not used yet, how much of a body is still to come, and whether it awaits an answer. */
struct client { size_t length; unsigned long long body; int due; char sent[LONGEST_HEAD + 1]; };

static struct pollfd polled[MOST_CLIENTS + 1];  /* the first is the listener */
static struct client *clients[MOST_CLIENTS + 1];
static nfds_t count = 1;
static unsigned long long answered;

static void stop(int signal) { (void)signal; _exit(0); }

static void leave(nfds_t i) {
    close(polled[i].fd);
    free(clients[i]);
    polled[i] = polled[--count];
    clients[i] = clients[count];
}

static void enter(int fd) {
    if (fd < 0) return;
    if (!(clients[count] = calloc(1, sizeof **clients))) { close(fd); return; }
    polled[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

static int answer(int fd, const char *status, const char *more) {
    char body[128], all[512];
    int length = snprintf(body, sizeof body, "hello from C: answer %llu of process %d\n", ++answered, (int)getpid());
    int size = snprintf(all, sizeof all, "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n%s\r\n%s",
                        status, length, more, body);
    return send(fd, all, (size_t)size, MSG_NOSIGNAL | MSG_DONTWAIT) == size;
}

static const char *header(const char *head, const char *name) {
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
        if (strncasecmp(line + 2, name, strlen(name)) == 0) return line + 2 + strlen(name);
    return NULL;
}

static void drop(struct client *c, size_t bytes) {
    c->length -= bytes;
    memmove(c->sent, c->sent + bytes, c->length + 1);
}

/* Answer every request that is there as a whole; 0 once the connection has to end. */
static int serve(int fd, struct client *c) {
    for (;;) {
        size_t here = c->body < c->length ? (size_t)c->body : c->length;
        drop(c, here);
        if (c->body -= here) return 1;
        if (c->due && !answer(fd, "200 OK", "")) return 0;
        c->due = 0;
        char *end = strstr(c->sent, "\r\n\r\n");
        if (!end) return c->length < LONGEST_HEAD;
        end[2] = '\0';
        const char *size = header(c->sent, "content-length:");
        if (header(c->sent, "transfer-encoding:")) {  /* chunks are not read here: say so, and wait for the end */
            if (!answer(fd, "411 Length Required", "Connection: close\r\n")) return 0;
            c->body = ULLONG_MAX;
        } else {
            c->body = size ? strtoull(size, NULL, 10) : 0;
            c->due = 1;
        }
        drop(c, (size_t)(end + 4 - c->sent));
    }
}

static int heard(int fd, struct client *c) {
    ssize_t got = recv(fd, c->sent + c->length, LONGEST_HEAD - c->length, 0);
    if (got <= 0) return 0;
    c->sent[c->length += (size_t)got] = '\0';
    return serve(fd, c);
}

int main(void) {
    const char *port = getenv("PORT");
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((unsigned short)atoi(port ? port : "8000"))};
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 1024)) { perror("listen"); return 1; }
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    polled[0].fd = listener;
    for (;;) {
        polled[0].events = count <= MOST_CLIENTS ? POLLIN : 0;
        if (poll(polled, count, -1) < 0) continue;
        for (nfds_t i = count - 1; i > 0; i--)
            if (polled[i].revents && !heard(polled[i].fd, clients[i])) leave(i);
        if (polled[0].revents & POLLIN) enter(accept(listener, NULL, NULL));
    }
}
