using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Bench;

/// <summary>64-bit integer code of the kinds that kernels and programs are made of; each ends with a write to port 0xF4.</summary>
internal static class GuestProgram
{
    /// <summary>Where the code lies and runs.</summary>
    public const ulong Code = 0x10_0000;

    /// <summary>Scratch memory of the programs, 1 MiB.</summary>
    public const ulong Data = 0x20_0000;

    public const ulong StackTop = 0x1F_0000;

    public static IReadOnlyList<(string Name, byte[] Bytes)> All { get; } =
    [
        ("sieve: byte loads and stores, compares", Build(Sieve)),
        ("hash: shifts, multiplies, xors in registers", Build(Hash)),
        ("calls: recursion, stack", Build(Fibonacci)),
        ("sort: loads, compares, hard branches", Build(Sort)),
        ("list: pointer chasing", Build(PointerChase)),
    ];

    private static byte[] Build(Action<Assembler> body)
    {
        var assembler = new Assembler(64);
        body(assembler);
        assembler.@out(0xF4, al);
        assembler.hlt();
        using var stream = new MemoryStream();
        assembler.Assemble(new StreamCodeWriter(stream), Code);
        return stream.ToArray();
    }

    private static void Sieve(Assembler a)
    {
        const int size = 500_000;
        Label again = a.CreateLabel(), clear = a.CreateLabel(), outer = a.CreateLabel(), inner = a.CreateLabel(), next = a.CreateLabel();
        a.mov(r15d, 12);
        a.Label(ref again);
        a.mov(rdi, Data);
        a.xor(ecx, ecx);
        a.Label(ref clear);
        a.mov(__byte_ptr[rdi + rcx], 1);
        a.inc(rcx);
        a.cmp(rcx, size);
        a.jb(clear);
        a.mov(esi, 2);
        a.Label(ref outer);
        a.cmp(__byte_ptr[rdi + rsi], 0);
        a.je(next);
        a.lea(rcx, __[rsi + rsi]);
        a.Label(ref inner);
        a.cmp(rcx, size);
        a.jae(next);
        a.mov(__byte_ptr[rdi + rcx], 0);
        a.add(rcx, rsi);
        a.jmp(inner);
        a.Label(ref next);
        a.inc(rsi);
        a.cmp(rsi, 708);
        a.jb(outer);
        a.dec(r15d);
        a.jnz(again);
    }

    private static void Hash(Assembler a)
    {
        Label again = a.CreateLabel();
        a.mov(rax, 0x9E3779B97F4A7C15);
        a.mov(rbx, rax);
        a.mov(ecx, 4_000_000);
        a.Label(ref again);
        a.mov(rdx, rax);
        a.shl(rdx, 13);
        a.xor(rax, rdx);
        a.mov(rdx, rax);
        a.shr(rdx, 7);
        a.xor(rax, rdx);
        a.mov(rdx, rax);
        a.shl(rdx, 17);
        a.xor(rax, rdx);
        a.imul(rbx, rbx, 31);
        a.add(rbx, rax);
        a.rol(rbx, 5);
        a.dec(ecx);
        a.jnz(again);
    }

    private static void Fibonacci(Assembler a)
    {
        Label start = a.CreateLabel(), fibonacci = a.CreateLabel(), leaf = a.CreateLabel();
        a.jmp(start);
        a.Label(ref fibonacci);
        a.cmp(edi, 2);
        a.jb(leaf);
        a.push(rbx);
        a.push(rdi);
        a.dec(edi);
        a.call(fibonacci);
        a.mov(rbx, rax);
        a.pop(rdi);
        a.sub(edi, 2);
        a.call(fibonacci);
        a.add(rax, rbx);
        a.pop(rbx);
        a.ret();
        a.Label(ref leaf);
        a.mov(eax, edi);
        a.ret();
        a.Label(ref start);
        a.mov(edi, 30);
        a.call(fibonacci);
    }

    private static void Sort(Assembler a)
    {
        const int count = 3000;
        Label fill = a.CreateLabel(), outer = a.CreateLabel(), inner = a.CreateLabel(), placed = a.CreateLabel(), again = a.CreateLabel();
        a.mov(r15d, 3);
        a.Label(ref again);
        a.mov(rdi, Data);
        a.mov(eax, 12345);
        a.xor(ecx, ecx);
        a.Label(ref fill);
        a.imul(eax, eax, 1103515245);
        a.add(eax, 12345);
        a.mov(__dword_ptr[rdi + (rcx * 4)], eax);
        a.inc(ecx);
        a.cmp(ecx, count);
        a.jne(fill);
        a.mov(ecx, 1);
        a.Label(ref outer);
        a.mov(eax, __dword_ptr[rdi + (rcx * 4)]);
        a.mov(rdx, rcx);
        a.Label(ref inner);
        a.mov(ebx, __dword_ptr[rdi + (rdx * 4) - 4]);
        a.cmp(ebx, eax);
        a.jbe(placed);
        a.mov(__dword_ptr[rdi + (rdx * 4)], ebx);
        a.dec(rdx);
        a.jnz(inner);
        a.Label(ref placed);
        a.mov(__dword_ptr[rdi + (rdx * 4)], eax);
        a.inc(rcx);
        a.cmp(rcx, count);
        a.jb(outer);
        a.dec(r15d);
        a.jnz(again);
    }

    private static void PointerChase(Assembler a)
    {
        const int nodes = 16384;
        Label link = a.CreateLabel(), chase = a.CreateLabel();
        a.mov(rdi, Data);
        a.xor(ecx, ecx);
        a.Label(ref link);
        a.lea(rax, __[rcx + 4099]);
        a.and(eax, nodes - 1);
        a.shl(rax, 4);
        a.add(rax, rdi);
        a.mov(rdx, rcx);
        a.shl(rdx, 4);
        a.mov(__qword_ptr[rdi + rdx], rax);
        a.mov(__qword_ptr[rdi + rdx + 8], rcx);
        a.inc(ecx);
        a.cmp(ecx, nodes);
        a.jb(link);
        a.mov(ecx, 10_000_000);
        a.xor(ebx, ebx);
        a.mov(rax, rdi);
        a.Label(ref chase);
        a.add(rbx, __qword_ptr[rax + 8]);
        a.mov(rax, __qword_ptr[rax]);
        a.test(rax, rax);
        Label done = a.CreateLabel();
        a.je(done);
        a.dec(ecx);
        a.jnz(chase);
        a.Label(ref done);
        a.nop();
    }
}
