using System.Buffers.Binary;
using System.Globalization;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>What one case starts from, apart from the code and the background of the pages.</summary>
internal sealed class CaseInput
{
    private const int MaxPokes = 64;
    private readonly (ulong Address, byte Value)[] _pokes = new (ulong, byte)[MaxPokes];
    private int _pokeCount;

    public ulong[] Gpr { get; } = new ulong[16];

    public ulong Flags { get; set; }

    /// <summary>x87, MMX, MXCSR and XMM state in FXSAVE64 format.</summary>
    public byte[] Fx { get; } = new byte[512];

    /// <summary>Upper halves of YMM0 to YMM15.</summary>
    public byte[] Ymm { get; } = new byte[256];

    /// <summary>Bytes that differ from the background.</summary>
    public ReadOnlySpan<(ulong Address, byte Value)> Pokes => _pokes.AsSpan(0, _pokeCount);

    public void Clear() => _pokeCount = 0;

    /// <summary>Puts a value into memory, as far as it lies in pages that can be written.</summary>
    public void Poke(ulong address, ulong value, int size)
    {
        for (int i = 0; i < size && _pokeCount < MaxPokes; i++)
        {
            ulong at = address + (ulong)i;
            if (Array.IndexOf(ArenaLayout.WritablePages(32), at & ~0xFFFUL) >= 0)
            {
                _pokes[_pokeCount++] = (at, (byte)(value >> (8 * i)));
            }
        }
    }

    public string Describe(bool withFx)
    {
        string gpr = string.Join(' ', Gpr.Select((value, i) => string.Create(CultureInfo.InvariantCulture, $"{RegisterNames.Gpr[i]}={value:x}")));
        string pokes = string.Join(' ', _pokes.Take(_pokeCount).Select(p => $"[{p.Address:x}]={p.Value:x2}"));
        string text = $"{gpr} flags={RegisterNames.Flags(Flags)} {pokes}";
        return withFx ? text + $" mxcsr={BinaryPrimitives.ReadUInt32LittleEndian(Fx.AsSpan(24)):x}" : text;
    }
}

/// <summary>How messages name registers and flags.</summary>
internal static class RegisterNames
{
    public static readonly string[] Gpr =
        ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];

    private static readonly (ulong Bit, string Name)[] FlagNames =
    [
        (Rflags.Carry, "CF"), (Rflags.Parity, "PF"), (Rflags.Adjust, "AF"), (Rflags.Zero, "ZF"), (Rflags.Sign, "SF"),
        (Rflags.Direction, "DF"), (Rflags.Overflow, "OF"),
    ];

    public static string Flags(ulong flags) =>
        $"{flags:x}[{string.Join(' ', FlagNames.Where(f => (flags & f.Bit) != 0).Select(f => f.Name))}]";
}
