/* The guest's side of the tests against a Linux kernel (scripts/linux-peer, crates/ipsecov2/tests/linux_peer).
 *
 *   peer errands DEVICE                       runs what the harness sends over a virtio port, one script after the other
 *   peer echo PORT                            answers UDP datagrams with themselves, over IPv4 and IPv6
 *   peer encapsulation PORT                   opens the sockets that take ESP in UDP (RFC 3948), as an IKE daemon does;
 *                                             what is not ESP is answered like echo
 *   peer ping|udp ADDRESS PORT [-OPTION] SIZE...  one datagram of each size, each of which must come back as it was
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/types.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <linux/udp.h>
#include <linux/xfrm.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef IP_XFRM_POLICY
#define IP_XFRM_POLICY 17
#endif
#ifndef IPV6_XFRM_POLICY
#define IPV6_XFRM_POLICY 35
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

static void die(const char *what)
{
	fprintf(stderr, "peer: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void write_all(int fd, const void *data, size_t length)
{
	const char *bytes = data;
	while (length > 0) {
		ssize_t n = write(fd, bytes, length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die("write");
		bytes += n;
		length -= (size_t)n;
	}
}

/* Reads exactly; 0 at the end of what there is. */
static int read_all(int fd, void *data, size_t length)
{
	char *bytes = data;
	while (length > 0) {
		ssize_t n = read(fd, bytes, length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return 0;
		bytes += n;
		length -= (size_t)n;
	}
	return 1;
}

/* An errand is its length (4 bytes, big-endian) and a shell script; the answer is the script's exit status and the
 * length of its output (4 bytes each) and the output. When the harness goes away, so does the machine. */
static void errands(const char *device)
{
	int port = open(device, O_RDWR | O_CLOEXEC);
	if (port < 0)
		die(device);
	uint32_t hello[2] = { htonl(0), htonl(0) };
	write_all(port, hello, sizeof hello);
	for (;;) {
		uint32_t length;
		if (!read_all(port, &length, sizeof length))
			break;
		length = ntohl(length);
		char *script = malloc(length + 1);
		if (script == NULL || !read_all(port, script, length))
			break;
		script[length] = 0;
		int output = open("/tmp/output", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (output < 0)
			die("/tmp/output");
		pid_t child = fork();
		if (child == 0) {
			dup2(output, 1);
			dup2(output, 2);
			execl("/bin/sh", "sh", "-c", script, (char *)NULL);
			die("/bin/sh");
		}
		int status = 0;
		while (waitpid(child, &status, 0) < 0 && errno == EINTR)
			;
		struct stat meta;
		if (fstat(output, &meta) < 0)
			die("fstat");
		char *text = malloc((size_t)meta.st_size + 1);
		if (text == NULL || pread(output, text, (size_t)meta.st_size, 0) != meta.st_size)
			die("pread");
		uint32_t head[2] = { htonl(WIFEXITED(status) ? (uint32_t)WEXITSTATUS(status) : 255u), htonl((uint32_t)meta.st_size) };
		write_all(port, head, sizeof head);
		write_all(port, text, (size_t)meta.st_size);
		free(text);
		free(script);
		close(output);
	}
	reboot(RB_POWER_OFF);
}

static int bound(int family, uint16_t number)
{
	int s = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0), yes = 1;
	struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = htons(number) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(number) };
	if (s < 0)
		die("socket");
	if (family == AF_INET6 && setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes) < 0)
		die("IPV6_V6ONLY");
	if (bind(s, family == AF_INET ? (struct sockaddr *)&in4 : (struct sockaddr *)&in6, family == AF_INET ? sizeof in4 : sizeof in6) < 0)
		die("bind");
	return s;
}

static void answer(int s)
{
	char data[65536];
	struct sockaddr_storage from;
	socklen_t length = sizeof from;
	ssize_t n = recvfrom(s, data, sizeof data, 0, (struct sockaddr *)&from, &length);
	if (n >= 0)
		sendto(s, data, (size_t)n, 0, (struct sockaddr *)&from, length);
}

static void serve(uint16_t number, int encapsulation)
{
	struct pollfd sockets[2];
	for (int i = 0; i < 2; i++) {
		int s = bound(i == 0 ? AF_INET : AF_INET6, number);
		if (encapsulation) {
			int kind = UDP_ENCAP_ESPINUDP;
			if (setsockopt(s, SOL_UDP, UDP_ENCAP, &kind, sizeof kind) < 0)
				die("UDP_ENCAP");
			/* The socket's own packets need no protection, and the policy for all others is strict. */
			for (int direction = XFRM_POLICY_IN; direction <= XFRM_POLICY_OUT; direction++) {
				struct xfrm_userpolicy_info policy = { .sel.family = i == 0 ? AF_INET : AF_INET6, .dir = (uint8_t)direction, .action = XFRM_POLICY_ALLOW };
				if (setsockopt(s, i == 0 ? IPPROTO_IP : IPPROTO_IPV6, i == 0 ? IP_XFRM_POLICY : IPV6_XFRM_POLICY, &policy, sizeof policy) < 0)
					die("XFRM_POLICY");
			}
		}
		sockets[i] = (struct pollfd){ .fd = s, .events = POLLIN };
	}
	for (;;) {
		if (poll(sockets, 2, -1) < 0)
			continue;
		for (int i = 0; i < 2; i++)
			if (sockets[i].revents)
				answer(sockets[i].fd);
	}
}

/* Options and extension headers of what is sent. */
static void dress(int s, int family, char option)
{
	/* Record route with room for three addresses. */
	static const unsigned char route[16] = { 7, 15, 4 };
	/* Eight bytes: next header and length, which the kernel fills in, and an option of the experimental kind 0x1e. */
	static const unsigned char options[8] = { 0, 0, 0x1e, 4, 'i', 'p', 's', 'c' };
	int result = -1;
	if (option == 'r' && family == AF_INET)
		result = setsockopt(s, IPPROTO_IP, IP_OPTIONS, route, sizeof route);
	else if (option == 'h' && family == AF_INET6)
		result = setsockopt(s, IPPROTO_IPV6, IPV6_HOPOPTS, options, sizeof options);
	else if (option == 'd' && family == AF_INET6)
		result = setsockopt(s, IPPROTO_IPV6, IPV6_DSTOPTS, options, sizeof options);
	else
		errno = EINVAL;
	if (result < 0)
		die("options");
}

static int ask(int ping, const char *address, uint16_t number, char **sizes)
{
	struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = htons(number) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(number) };
	int family = strchr(address, ':') ? AF_INET6 : AF_INET;
	int protocol = !ping ? 0 : family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	int s = socket(family, SOCK_DGRAM, protocol), failed = 0;
	static unsigned char sent[65536], received[65536];
	/* How long an answer may take, in milliseconds. */
	int patience = getenv("PATIENCE_MS") ? atoi(getenv("PATIENCE_MS")) : 4000;
	if (s < 0)
		die("socket");
	if (inet_pton(family, address, family == AF_INET ? (void *)&in4.sin_addr : (void *)&in6.sin6_addr) != 1)
		die(address);
	for (; *sizes != NULL && **sizes == '-'; sizes++)
		dress(s, family, (*sizes)[1]);
	if (connect(s, family == AF_INET ? (struct sockaddr *)&in4 : (struct sockaddr *)&in6, family == AF_INET ? sizeof in4 : sizeof in6) < 0)
		die("connect");
	for (int number = 1; *sizes != NULL; sizes++, number++) {
		size_t head = ping ? 8 : 0, length = head + strtoul(*sizes, NULL, 10);
		memset(sent, 0, head);
		if (ping) {
			sent[0] = family == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST;
			sent[7] = (unsigned char)number;
		}
		for (size_t i = head; i < length; i++)
			sent[i] = (unsigned char)("guest canary "[(i - head) % 13] + number);
		if (send(s, sent, length, 0) != (ssize_t)length) {
			printf("%s of %s bytes: %s\n", ping ? "ping" : "udp", *sizes, strerror(errno));
			failed = 1;
			continue;
		}
		int good = 0;
		struct pollfd waiting = { .fd = s, .events = POLLIN };
		while (!good && poll(&waiting, 1, patience) > 0) {
			ssize_t n = recv(s, received, sizeof received, 0);
			if (n < 0) {
				printf("%s of %s bytes: %s\n", ping ? "ping" : "udp", *sizes, strerror(errno));
				break;
			}
			good = n == (ssize_t)length && memcmp(received + head, sent + head, length - head) == 0 &&
			       (!ping || received[7] == (unsigned char)number);
			if (!good)
				printf("%s of %s bytes: an answer of %zd bytes that is not it\n", ping ? "ping" : "udp", *sizes, n - (ssize_t)head);
		}
		if (!good) {
			printf("%s of %s bytes: no answer\n", ping ? "ping" : "udp", *sizes);
			failed = 1;
		}
	}
	return failed;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && strcmp(argv[1], "errands") == 0)
		errands(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "echo") == 0)
		serve((uint16_t)atoi(argv[2]), 0);
	else if (argc == 3 && strcmp(argv[1], "encapsulation") == 0)
		serve((uint16_t)atoi(argv[2]), 1);
	else if (argc >= 4 && strcmp(argv[1], "ping") == 0)
		return ask(1, argv[2], 0, argv + 4);
	else if (argc >= 4 && strcmp(argv[1], "udp") == 0)
		return ask(0, argv[2], (uint16_t)atoi(argv[3]), argv + 4);
	fprintf(stderr, "peer: errands, echo, encapsulation, ping or udp\n");
	return 2;
}
