using System.Numerics;

namespace Tutti.Devices.InterruptControllers;

/// <summary>One of the 256-bit registers IRR, ISR and TMR.</summary>
internal sealed class VectorSet
{
    private readonly uint[] _words = new uint[8];

    public uint Word(int index) => _words[index & 7];

    public bool Contains(int vector) => (_words[vector >> 5] & (1u << (vector & 31))) != 0;

    public void Set(int vector, bool value)
    {
        uint bit = 1u << (vector & 31);
        if (value)
        {
            _words[vector >> 5] |= bit;
        }
        else
        {
            _words[vector >> 5] &= ~bit;
        }
    }

    /// <summary>The highest vector in the set, or -1.</summary>
    public int Highest()
    {
        for (int i = 7; i >= 0; i--)
        {
            if (_words[i] != 0)
            {
                return (i * 32) + BitOperations.Log2(_words[i]);
            }
        }

        return -1;
    }

    public void Clear() => Array.Clear(_words);

    public uint[] Save() => (uint[])_words.Clone();

    /// <exception cref="ArgumentException">Not 8 words.</exception>
    public void Restore(uint[] words)
    {
        if (words.Length != _words.Length)
        {
            throw new ArgumentException("An APIC vector register has 8 words.", nameof(words));
        }

        words.CopyTo(_words, 0);
    }
}
