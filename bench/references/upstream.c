/* The service behind every proxy: HTTP/1.1 on 127.0.0.1:$PORT, one thread, the same answer to every request (the shape
 * of a small chat completion), bodies read and dropped. As cheap as can be, so that what is measured is the proxy. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_FILES = 4096, LONGEST_HEAD = 16384 };

static const char BODY[] =
    "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"bench\",\"choices\":"
    "[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"salam\"},\"finish_reason\":\"stop\"}],"
    "\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1,\"total_tokens\":6}}";

struct client { size_t length; unsigned long body; char sent[LONGEST_HEAD + 1]; };

static struct client *clients[MOST_FILES];
static char all[1024];
static int size;

static void stop(int signal) { (void)signal; _exit(0); }

static void leave(int fd) { free(clients[fd]); clients[fd] = NULL; close(fd); }

static void enter(int epoll, int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
    if (fd < 0) return;
    if (fd >= MOST_FILES || !(clients[fd] = calloc(1, sizeof *clients[fd]))) { close(fd); return; }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

/* Answer every request that is there as a whole; 0 once the connection has to end. */
static int serve(int fd, struct client *c) {
    for (;;) {
        char *end = strstr(c->sent, "\r\n\r\n");
        if (!end) return c->length < LONGEST_HEAD;
        end[2] = '\0';
        char *given = strcasestr(c->sent, "\r\ncontent-length:");
        end[2] = '\r';
        size_t head = (size_t)(end + 4 - c->sent), body = given ? strtoul(given + 17, NULL, 10) : 0;
        if (head + body > LONGEST_HEAD) return 0;
        if (c->length < head + body) return 1;
        if (send(fd, all, (size_t)size, MSG_NOSIGNAL | MSG_DONTWAIT) != size) return 0;
        c->length -= head + body;
        memmove(c->sent, c->sent + head + body, c->length + 1);
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
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, epoll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 1024)) { perror("listen"); return 1; }
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    size = snprintf(all, sizeof all, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s",
                    (int)sizeof BODY - 1, BODY);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[64];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(epoll, ready, 64, -1);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener) enter(epoll, listener);
            else if (!heard(fd, clients[fd])) leave(fd);
        }
    }
}
