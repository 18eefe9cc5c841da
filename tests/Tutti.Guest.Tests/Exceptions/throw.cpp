// Throws and catches: the C++ runtime unwinds the stack, and asks first whether there is a shadow stack.
#include <cstdio>
#include <stdexcept>
#include <string>

static int thrower(int depth)
{
    std::string held(depth + 1, 'x');
    if (depth == 0) {
        throw std::runtime_error("thrown");
    }
    return thrower(depth - 1) + static_cast<int>(held.size());
}

int main()
{
    int caught = 0;
    for (int i = 0; i < 1000; i++) {
        try {
            std::printf("%d\n", thrower(i % 20));
        } catch (const std::exception &error) {
            caught++;
        }
    }
    std::printf("CAUGHT %d\n", caught);
}
