#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

int main(int count, char **words) {
    struct utsname system;
    uname(&system);
    printf("%s\n", GREETING);
    printf("process %d on %s, Linux %s\n", (int)getpid(), system.nodename, system.release);
    for (int i = 1; i < count; i++) printf("argument %d: %s\n", i, words[i]);
    return 0;
}
