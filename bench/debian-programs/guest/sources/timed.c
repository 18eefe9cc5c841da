/* timed FILE COMMAND [ARGUMENT...]: runs the command and writes into FILE how many seconds it took, from before its start to its end by
   the monotonic clock, the processor seconds that it and its children used, and its exit status. A shell's own clock is the time of
   day, which somebody may set meanwhile. SERVER in the environment is the number of a process that works for the command. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

/* What a server and its children that have ended have used. */
static double seconds_of_server(const char *number)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%s/stat", number);
    FILE *file = fopen(path, "r");
    size_t size = file == NULL ? 0 : fread(text, 1, sizeof text - 1, file);
    if (file != NULL) {
        fclose(file);
    }

    text[size] = 0;
    const char *fields = strrchr(text, ')');
    unsigned long user = 0, system = 0;
    long users = 0, systems = 0;
    if (fields != NULL) {
        sscanf(fields, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld", &user, &system, &users, &systems);
    }

    return (double)(user + system + (unsigned long)(users + systems)) / (double)sysconf(_SC_CLK_TCK);
}

int main(int count, char **words)
{
    if (count < 3) {
        fprintf(stderr, "usage: timed FILE COMMAND [ARGUMENT...]\n");
        return 2;
    }

    struct timespec begin, end;
    const char *server = getenv("SERVER");
    double served = server == NULL ? 0 : seconds_of_server(server);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    pid_t child = fork();
    if (child == 0) {
        execvp(words[2], words + 2);
        perror(words[2]);
        _exit(127);
    }

    int status;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror("timed");
        return 1;
    }

    clock_gettime(CLOCK_MONOTONIC, &end);
    FILE *file = fopen(words[1], "w");
    if (file == NULL) {
        perror(words[1]);
        return 1;
    }

    struct rusage used;
    getrusage(RUSAGE_CHILDREN, &used);
    double seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    double processor = seconds_of(used.ru_utime) + seconds_of(used.ru_stime);
    if (server != NULL) {
        /* A server's child for the command ends a little after it. */
        usleep(200000);
        processor += seconds_of_server(server) - served;
    }

    fprintf(file, "%.4f %.4f %d\n", seconds, processor, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return fclose(file) == 0 ? 0 : 1;
}
