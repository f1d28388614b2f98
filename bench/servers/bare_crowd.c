/*
 * bare_crowd: what a server of a crowd cannot do without, and nothing else.
 *
 * Blocking sockets in one thread. What one client sends goes to all, with one SSL_write or send each:
 * no event loop, no queues, no deadlines, and no look at who reads slowly. It is the ceiling for a
 * server that writes to each of its clients when a message comes. Run by bare_crowd.py.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_CLIENTS 20000

struct client {
    int fd;
    SSL *ssl;
};

static struct client clients[MAX_CLIENTS];
static int count, poller;
static SSL_CTX *tls;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int get(struct client *c, void *bytes, size_t size) {
    return c->ssl ? SSL_read(c->ssl, bytes, (int)size) : (int)recv(c->fd, bytes, size, 0);
}

static int put(struct client *c, const void *bytes, size_t size) {
    return c->ssl ? SSL_write(c->ssl, bytes, (int)size)
                  : (int)send(c->fd, bytes, size, MSG_NOSIGNAL);
}

static void take_in(int listener) {
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                 "Connection: Upgrade\r\n\r\n"; /* crowd.c asks for no more */
    struct client *c = &clients[count];
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    char head[2048];
    int one = 1, size = 0, n;
    if (count++ == MAX_CLIENTS) die("too many clients");
    if ((c->fd = accept(listener, NULL, NULL)) < 0) die("accept");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (tls && (!(c->ssl = SSL_new(tls)) || !SSL_set_fd(c->ssl, c->fd) || SSL_accept(c->ssl) != 1))
        die("SSL_accept");
    do {
        if ((n = get(c, head + size, sizeof head - 1 - (size_t)size)) <= 0) die("request");
        head[size += n] = '\0';
    } while (!strstr(head, "\r\n\r\n"));
    if (put(c, answer, sizeof answer - 1) < 0) die("101");
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event) < 0) die("epoll_ctl");
}

static void pass_on(struct client *from) {
    uint8_t frame[131], *mask = frame + 2, *payload = frame + 6;
    int n = get(from, frame, sizeof frame), size = n - 6;
    if (n <= 0) exit(0); /* the crowd goes */
    if (n < 6 || size != (frame[1] & 127)) die("not one whole frame");
    for (int i = 0; i < size; i++) payload[i] ^= mask[i % 4];
    payload[-1] = (uint8_t)size;
    payload[-2] = 0x81;
    for (int i = 0; i < count; i++)
        if (put(&clients[i], payload - 2, (size_t)size + 2) != size + 2) exit(0);
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct rlimit files;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    if (argc < 2) die("bare_crowd PORT [PEM]");
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (argc > 2) {
        tls = SSL_CTX_new(TLS_server_method());
        if (SSL_CTX_use_certificate_chain_file(tls, argv[2]) != 1 ||
            SSL_CTX_use_PrivateKey_file(tls, argv[2], SSL_FILETYPE_PEM) != 1)
            die("certificate");
    }
    address.sin_port = htons((uint16_t)atoi(argv[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
    if (listen(listener, 1024) < 0) die("listen");
    poller = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN});
    for (;;) {
        struct epoll_event events[64];
        int n = epoll_wait(poller, events, 64, -1);
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr)
                pass_on(events[i].data.ptr);
            else
                take_in(listener);
    }
}
