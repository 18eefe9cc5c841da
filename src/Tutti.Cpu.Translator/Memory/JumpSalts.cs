using System.Runtime.Intrinsics.X86;

namespace Tutti.Cpu.Translator;

/// <summary>
/// Numbers that keep the address spaces apart in the jump cache of user mode. An entry's index is the CRC-32C of the linear address that begins with
/// the salt. As the CRC is linear, two salts give one address indexes that differ by the same bits whatever the address is; and each two of these differ
/// in a bit that both places of an address have in common. So an entry is found with its own salt alone, and no tag needs to name the address space.
/// </summary>
internal static class JumpSalts
{
    /// <summary>The index's lowest bit is alike for all salts, by which <see cref="TranslatorTables"/> tells empty entries; and its highest makes the second place.</summary>
    private const int Bits = 14;

    public const int Count = 1 << Bits;

    private static readonly uint[] s_basis = FindBasis();

    /// <param name="number">0 to <see cref="Count"/> - 1.</param>
    public static uint Get(int number)
    {
        uint salt = 0;
        for (int bit = 0; bit < Bits; bit++)
        {
            salt ^= ((number >> bit) & 1) != 0 ? s_basis[bit + 1] : 0;
        }

        return salt;
    }

    private static uint Hash(uint salt) => (uint)Sse42.X64.Crc32(salt, 0) & ((1u << (Bits + 1)) - 1);

    /// <summary>For each bit of the index but the highest, a number whose hash is that bit: by elimination over the numbers of one bit.</summary>
    private static uint[] FindBasis()
    {
        uint[] basis = new uint[Bits + 1];
        for (int bit = 0; bit < 32; bit++)
        {
            uint number = 1u << bit;
            for (int pivot = Bits; pivot >= 0 && Hash(number) != 0; pivot--)
            {
                if ((Hash(number) >> pivot & 1) == 0)
                {
                    continue;
                }

                if (basis[pivot] == 0)
                {
                    basis[pivot] = number;
                    break;
                }

                number ^= basis[pivot];
            }
        }

        for (int bit = 0; bit <= Bits; bit++)
        {
            // What is left below the pivot goes, from the lowest on, whose own are done.
            for (int lower = bit - 1; lower >= 0; lower--)
            {
                basis[bit] ^= (Hash(basis[bit]) >> lower & 1) != 0 ? basis[lower] : 0;
            }
        }

        return basis;
    }
}
